"""What a slot ledger promises, whatever it is made of.

One ledger per region. It knows the workers that are alive (each holds a **lease** that its heartbeats extend), the **slots**
they bring, and the **reservations** on those slots. Selecting a slot and claiming it is one atomic act. The rules:

* The caller chooses the reservation id, so asking twice gives the same answer and a lost reply can be compensated.
* The busy slots *are* the live reservations: there is no counter that could leak.
* Every reservation carries the ledger's **epoch** (grows when the ledger lost its memory) and a **fence** (grows with every
  reservation), so that a late release or a resurrected worker touches nothing newer.
* Time is the server's, read once per act. Durations go in, instants stay inside.
* Expiry is decided by stored deadlines, and done by `sweep` and by every act that looks; a dead worker's slots and
  reservations disappear together.
* When the store cannot be reached every act raises `LedgerUnavailable` within `LedgerTimings.call_timeout_us`.

`router/capacity/valkey_ledger.py` is the real one; `tests/router/capacity` holds a plain-Python one that passes the same tests.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from router.policy.vocabulary import Refusal

WORKERS_PER_REGION_MAX = 100_000
SLOTS_PER_WORKER_MAX = 1024
VARIANTS_PER_WORKER_MAX = 64


class LedgerUnavailable(Exception):
    """The store did not answer, or answered that it cannot write. Nothing is assumed about what it did."""


class LedgerMisconfigured(Exception):
    """The store would lose reservations (for example `maxmemory-policy` evicts). The message says what to change."""


@dataclass(frozen=True, slots=True)
class LedgerTimings:
    """Durations of a ledger, in microseconds."""

    lease_us: int = 4_000_000
    """A worker is dead this long after its last heartbeat."""
    heartbeat_us: int = 1_000_000
    """Workers are asked to send a heartbeat this often; a quarter of the lease forgives two lost ones."""
    reservation_us: int = 10_000_000
    """A reservation that no worker reports as running expires this long after it was made or last renewed."""
    rebuild_us: int = 1_500_000
    """After the ledger lost its memory nothing is granted for this long: one heartbeat of every worker and a half."""
    request_us: int = 600_000_000
    """A request id is remembered this long after it was last used."""
    call_timeout_us: int = 500_000
    """A call that takes longer counts as unavailable."""


@dataclass(frozen=True, slots=True)
class VariantOffer:
    """A variant that a worker has loaded."""

    model: str
    variant: str
    digest: str
    service_us: int


@dataclass(frozen=True, slots=True)
class WorkerRegistration:
    """What a worker states when it attaches. Validated before it gets here: 1 ≤ slots ≤ SLOTS_PER_WORKER_MAX."""

    worker: str
    incarnation: str
    address: str
    slots: int
    variants: tuple[VariantOffer, ...]
    running: tuple[str, ...] = ()
    """Reservations the worker runs now: adopted, so that a rebuilt ledger counts them busy."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Answer to a registration."""

    epoch: int
    superseded: str | None
    """Incarnation that held the name until now, if another."""
    accepted: bool = True
    """False: that other one is alive and newer; this one had the name before, is not registered, and must stop."""


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """A claim on one slot."""

    reservation_id: str
    request_id: str
    model: str
    keep_free_share: float = 0.0
    """Share of the pool's slots that must stay free after this claim, 0 to 1: the reserve that spillover may not touch."""
    exclude_workers: frozenset[str] = frozenset()
    """Never these. Where no other worker serves the model the answer is FULL: there are workers, and none for this claim."""
    variant: str | None = None
    """Only this variant; None: any variant of the model."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A slot was claimed."""

    reservation_id: str
    worker: str
    incarnation: str
    address: str
    variant: str
    digest: str
    service_us: int
    epoch: int
    fence: int
    slots: int
    """Slots of the worker's pool."""
    busy: int
    """Busy slots of the worker's pool, this one counted (not if asked again about a worker that drains or is detached)."""
    expires_in_us: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No slot was claimed."""

    reason: Refusal
    eta_us: int
    """Time until the earliest busy slot that offers the model (and variant) is expected to free; 0 if unknown."""
    slots: int
    """Slots of all pools that serve the model."""
    busy: int
    """Busy ones among them."""


@dataclass(frozen=True, slots=True)
class HeartbeatSeen:
    """Answer to a heartbeat."""

    epoch: int
    known: bool
    """False: the ledger does not know this worker and incarnation (never, not any more, or it is detached); it has to register
    again, with what it runs. A heartbeat renews, and adopts nothing."""
    superseded: bool
    """True: a newer incarnation holds the name; this one must stop."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """One pool: the slots that compete for the same jobs, here those of all workers with the same set of models."""

    pool: str
    models: tuple[str, ...]
    slots: int
    busy: int
    workers: int
    """Live workers, whatever their state."""
    service_us: int
    """Mean over those workers of each one's mean over its variants."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker as the ledger knows it."""

    worker: str
    incarnation: str
    address: str
    state: str
    """`ready`, `draining`, or `detached` (its stream broke; no new jobs; gone when the lease ends)."""
    slots: int
    busy: int
    variants: tuple[VariantOffer, ...]
    """With the service times last measured."""
    service_us: int
    """Mean over the variants."""
    lease_left_us: int
    reservations: tuple[str, ...]


class RequestClaim(IntEnum):
    """What the ledger knows of a request id."""

    FRESH = 1
    RUNNING = 2
    SUCCEEDED = 3
    OTHER_CONTENT = 4


class SlotLedger(Protocol):
    """A region's slot ledger. Every method may raise `LedgerUnavailable`."""

    async def open(self) -> int:
        """Connect, check the store's settings, start or join the epoch; return it. Raises `LedgerMisconfigured`."""
        ...

    async def close(self) -> None:
        """Drop the connections; the ledger's content stays."""
        ...

    async def register(self, registration: WorkerRegistration) -> Registered:
        """Start a lease. A newer incarnation replaces an older one and frees what it held, except what it reports running."""
        ...

    async def heartbeat(
        self, worker: str, incarnation: str, running: tuple[str, ...], service_us: dict[str, int]
    ) -> HeartbeatSeen:
        """Extend the lease, renew the running reservations, and note measured service times by variant."""
        ...

    async def drain(self, worker: str, incarnation: str) -> bool:
        """Give this worker no new job. Running ones finish. False if unknown."""
        ...

    async def detach(self, worker: str, incarnation: str, gone: bool) -> bool:
        """The worker's stream ended. `gone`: it said goodbye; unless something is still reserved on it, it is removed at
        once. Else it gets no new job until it registers again."""
        ...

    async def reserve(self, request: ReservationRequest) -> Reserved | Refused:
        """Claim one slot: of the live, ready workers the one that has been idle longest. Idempotent by reservation id."""
        ...

    async def release(self, reservation_id: str) -> bool:
        """Free the slot. False if the reservation was already gone."""
        ...

    async def sweep(self, limit: int) -> int:
        """Expire at most `limit` leases and reservations that are past their time; return how many went."""
        ...

    async def pools(self) -> tuple[PoolStatus, ...]:
        """Every pool with at least one live worker, by name. Draining and detached workers' slots do not count."""
        ...

    async def workers(self) -> tuple[WorkerStatus, ...]:
        """Every worker with a live lease, by name."""
        ...

    async def claim_request(
        self, request_id: str, digest: str, running_us: int, fresh_share: float, floor_per_s: float
    ) -> RequestClaim:
        """Mark the id as running with this content, for `running_us` at most; FRESH only if it was unknown, had failed, or
        should have ended by now. Fresh requests deposit `fresh_share` of a token into the region's retry budget;
        `floor_per_s` tokens a second come in any case."""
        ...

    async def settle_request(self, request_id: str, digest: str, *, succeeded: bool) -> None:
        """End the claim: a success is remembered, a failure lets the id be used again (with the same content)."""
        ...

    async def withdraw_retry(self, floor_per_s: float) -> bool:
        """Take one token from the region's retry budget (a bucket of at most `RETRY_BUDGET_WINDOW_S` seconds' worth)."""
        ...

    async def grant_secret(self, proposed: bytes) -> bytes:
        """The region's secret for signing grants: the first proposal wins and is shared by all routers of the region."""
        ...
