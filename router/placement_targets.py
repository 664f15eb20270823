"""Asking a region for a slot: the home region through its ledger, another one through its router.

Both answer the same way. What was asked with a reservation id can be given back with it, whether or not the answer arrived:
a cancelled call may still have been carried out.
"""

from dataclasses import dataclass
from typing import Protocol

from homeward.v1 import work_pb2
from router.policy.vocabulary import Refusal


@dataclass(frozen=True, slots=True)
class Ask:
    """What a slot is wanted for."""

    reservation_id: str
    request_id: str
    model: str
    request_sha256: bytes
    time_left_us: int
    exclude_workers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Granted:
    """A slot, and the right to use it."""

    reservation_id: str
    grant: work_pb2.Grant
    worker: str
    address: str
    variant: str
    variant_digest: str
    service_us: int
    slots: int
    busy: int
    waiting: int
    expires_in_us: int = 0
    """The slot is held this long for a job that has not started; 0 unknown."""


@dataclass(frozen=True, slots=True)
class NotGranted:
    """No slot."""

    refusal: Refusal
    eta_us: int = 0
    slots: int = 0
    busy: int = 0
    maybe_claimed: bool = False
    """The answer was lost: a slot may have been claimed all the same."""


class PlacementTarget(Protocol):
    """One region, as a place to ask for slots. Neither method raises anything but cancellation."""

    async def reserve(self, ask: Ask) -> Granted | NotGranted:
        """Claim one slot."""
        ...

    async def release(self, reservation_id: str) -> bool:
        """Give it back; False (and no harm) if it was gone, or nobody answered."""
        ...
