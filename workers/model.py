"""What the runtime needs from a generation model, and where models are found.

The runtime knows grants, slots, deadlines and streams; it knows nothing of motions or diffusion. A model joins by bringing an
adapter that speaks `GenerationModel` and an entry in `LOADERS`. Loaders import their model only when called, so that neither
this module nor the rest of the runtime needs torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from homeward.v1.generation_pb2 import GenerateRequest


class InputRejected(Exception):
    """The request is wrong for this model, and would be on any worker. The message is for the user."""

    def __init__(self, field: str, message: str) -> None:
        """`field` is the path of the offending field in GenerateRequest, for example "animate.motion"."""
        super().__init__(message)
        self.field = field
        self.message = message


class JobStopped(Exception):
    """Raised by `on_step` into a model: the job is to end now. A model lets it through."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a whole job: `step` of `steps` are done, from 1."""

    stage: str
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model made."""

    data: bytes
    media_type: str
    width_px: int
    height_px: int
    frames: int
    duration_ms: int
    motion: str


OnStep = Callable[[Step], None]


class GenerationModel(Protocol):
    """A loaded variant of a model. `generate` runs in several threads at once, one for each slot."""

    @property
    def name(self) -> str:
        """Name that requests use, for example "animate"."""
        ...

    @property
    def variant_id(self) -> str:
        """Variant: model, weights, sampler, precision."""
        ...

    @property
    def digest(self) -> str:
        """Digest of the weights, "sha256:…"."""
        ...

    def check(self, request: GenerateRequest) -> None:
        """Raise InputRejected if the parameters are wrong. Quick: it runs in the event loop, before a slot is used."""
        ...

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Generated:
        """Run a job to its end, calling `on_step` at least every 300 ms. Raises InputRejected, or what `on_step` raised."""
        ...

    def warm_up_request(self) -> GenerateRequest:
        """Return a small request, to measure the service time with."""
        ...


Loader = Callable[[int], GenerationModel]
"""Loads a model that uses this many CPU threads for one job."""


def _load_animate(threads: int) -> GenerationModel:
    from workers.animate_requests import AnimateRequests

    return AnimateRequests.load(threads)


LOADERS: dict[str, Loader] = {"animate": _load_animate}
"""Models by the name that requests and `--model` use."""
