"""What `generate` yields: `Waiting`, `Placed`, `Progress`, and last `Finished`.

Immutable values, so a gateway may keep them, send them to another thread or compare them. All times are in milliseconds and
named so. `Waiting` may come several times; a second `Placed` means that a worker failed and the job was placed again.
"""

from dataclasses import dataclass, field

from homeward.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Waiting:
    """No slot was free; the router tries again after `wait_ms`."""

    attempts: int
    """Placement rounds used so far, from 1."""
    wait_ms: int
    """Time until the next round."""
    reason: str
    """Why this long: a name of the contract's `Reason`, for example "BACKOFF" or "SLOT_ETA"."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A slot was granted and the job is on its way there."""

    served_region: str
    worker: str
    variant: str
    variant_digest: str
    attempts: int
    """Placement rounds used so far, from 1."""
    start_delay_ms: int
    """Marginal execution delay before the job starts."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The model took a step."""

    stage: str
    """What the worker is doing: "decode", "denoise", "warp", "encode"."""
    step: int
    """Steps done, from 1."""
    steps: int
    """Steps in all."""

    @property
    def fraction(self) -> float:
        """Steps done over steps in all, 0 to 1."""
        return min(1.0, max(0.0, self.step / self.steps)) if self.steps > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a successful generation: the output, verified, and everything measured."""

    output: bytes = field(repr=False)
    """The generated file. Its size and SHA-256 were checked against what the worker said."""
    media_type: str
    """For example "image/webp"."""
    sha256: str
    """Lower-case hex digest of `output`."""
    width_px: int
    height_px: int
    frames: int
    duration_ms: int
    """Length of one loop."""
    motion: str
    """Motion that was used (what "auto" chose)."""
    request_id: str
    model: str
    variant: str
    variant_digest: str
    home_region: str
    """Region the request came from."""
    served_region: str
    """Region that ran it; another one than `home_region` means that it was spilled."""
    worker: str
    attempts: int
    """Placement rounds, from 1."""
    wait_ms: int
    """Time spent waiting for a slot."""
    start_delay_ms: int
    """Marginal execution delay."""
    run_ms: int
    """Time on the GPU slot, as the worker measured it."""
    total_ms: int
    """From arrival at the router to its last message."""
    outcome: Outcome = Outcome.OK

    @property
    def size_bytes(self) -> int:
        """Length of `output`."""
        return len(self.output)


Event = Waiting | Placed | Progress | Finished
"""Everything that `generate` can yield."""
