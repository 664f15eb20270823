"""A real worker process whose model only takes time: as many milliseconds as the request's seed says.

    python -m benchmarks.timed_worker --model timed --region … --router … --name …     (arguments of `python -m workers`)
"""

import sys
import time

from homeward.v1 import generation_pb2
from workers.__main__ import main
from workers.model import LOADERS, Generated, GenerationModel, OnStep, Step

RUN_MS_MAX = 60_000


class TimedModel:
    """Sleeps; makes 1 kB."""

    name = "timed"
    variant_id = "timed-v1"
    digest = "sha256:" + "0" * 64

    def check(self, request: generation_pb2.GenerateRequest) -> None:
        """Everything is allowed."""

    def generate(self, request: generation_pb2.GenerateRequest, on_step: OnStep) -> Generated:
        """Take `seed` milliseconds, in steps of at most 100 ms."""
        left_s = min(request.seed, RUN_MS_MAX) / 1000
        while left_s > 0:
            time.sleep(min(left_s, 0.1))
            left_s -= 0.1
            on_step(Step("denoise", 1, 1))
        on_step(Step("encode", 1, 1))
        return Generated(b"x" * 1024, "image/webp", 1, 1, 1, 1, "none")

    def warm_up_request(self) -> generation_pb2.GenerateRequest:
        """Takes no time."""
        return generation_pb2.GenerateRequest(model=self.name)


def load(threads: int) -> GenerationModel:
    """There is nothing to load."""
    return TimedModel()


if __name__ == "__main__":
    LOADERS["timed"] = load
    sys.exit(main())
