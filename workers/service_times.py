"""How long a job of each variant takes here: measured once before work is taken, then followed job by job.

The mean is exponentially weighted, `mean += WEIGHT * (run - mean)`, so it follows a machine that slows down within a few jobs.
Only jobs that succeeded count: a cancelled job says nothing about the time of a whole one.
"""

import time
from dataclasses import dataclass

from homeward.v1.fleet_pb2 import ServiceTime
from workers.model import GenerationModel

WEIGHT = 0.2
"""Half of a lasting change is seen after three jobs (1 - 0.8**3 = 0.49), one outlier moves the mean by a fifth."""


@dataclass(slots=True)
class _Measured:
    mean_ms: float
    jobs: int


class ServiceTimes:
    """Mean run time by variant."""

    def __init__(self, warm_up_ms: dict[str, int]) -> None:
        """`warm_up_ms` is the time of one run by variant id, each at least 1."""
        self._measured = {variant: _Measured(ms, 0) for variant, ms in warm_up_ms.items()}

    def observe(self, variant: str, run_ms: int) -> None:
        """Count a job that succeeded. The first one replaces the warm-up, whose photo was small and whose caches were cold."""
        measured = self._measured[variant]
        measured.jobs += 1
        weight = 1.0 if measured.jobs == 1 else WEIGHT
        measured.mean_ms += weight * (run_ms - measured.mean_ms)

    def mean_ms(self, variant: str) -> int:
        """Return the expected time of the next job, in milliseconds, at least 1."""
        return max(1, round(self._measured[variant].mean_ms))

    def report(self) -> list[ServiceTime]:
        """Return what a heartbeat says: one entry for each variant that ran."""
        return [
            ServiceTime(variant=variant, jobs=measured.jobs, mean_ms=self.mean_ms(variant))
            for variant, measured in self._measured.items()
            if measured.jobs > 0
        ]


def measure_warm_up(model: GenerationModel) -> int:
    """Run one small job to its end and return its time in milliseconds, at least 1. Raises what the model raises."""
    started_s = time.monotonic()
    model.generate(model.warm_up_request(), lambda _step: None)
    return max(1, round((time.monotonic() - started_s) * 1_000))
