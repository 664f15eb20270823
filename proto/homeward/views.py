"""What operators see: regions, workers, and the story of one request, as immutable values.

Each class has `of`, which reads the message of `operations.proto` with the same name. All times carry their unit in the name.
"""

from dataclasses import dataclass

from homeward.outcomes import Outcome, wire_name
from homeward.v1 import operations_pb2, outcome_pb2, peering_pb2


@dataclass(frozen=True, slots=True)
class Pool:
    """The slots that compete for the same jobs."""

    pool: str
    models: tuple[str, ...]
    slots: int
    busy: int
    offered: int
    """Slots that the region lets others use now."""
    service_ms: int
    """Mean run time; 0 if unknown."""
    workers: int

    @classmethod
    def of(cls, message: peering_pb2.PoolCapacity) -> "Pool":
        """Read the message."""
        return cls(
            pool=message.pool,
            models=tuple(message.models),
            slots=message.slots,
            busy=message.busy,
            offered=message.offered,
            service_ms=message.service_ms,
            workers=message.workers,
        )


@dataclass(frozen=True, slots=True)
class Region:
    """One region as the asked router sees it."""

    region: str
    ring: int
    """Distance band round the asked router's region: 0 is that region."""
    rtt_ms: float
    pools: tuple[Pool, ...]
    waiting: int
    """Requests waiting there for a slot."""
    snapshot_age_ms: int
    """Age of the numbers; -1 when nothing was ever heard."""
    usable: bool
    trouble: str
    """Why it cannot be used; empty when it can."""

    @property
    def slots(self) -> int:
        """Slots of live workers, over all pools."""
        return sum(pool.slots for pool in self.pools)

    @property
    def busy(self) -> int:
        """Slots with a live reservation."""
        return sum(pool.busy for pool in self.pools)

    @property
    def free(self) -> int:
        """Slots without one."""
        return max(0, self.slots - self.busy)

    @property
    def offered(self) -> int:
        """Slots that the region lets others use now."""
        return sum(pool.offered for pool in self.pools)

    @property
    def load(self) -> float:
        """Busy over slots, 0 to 1; 0 when there is no slot."""
        return self.busy / self.slots if self.slots else 0.0

    @classmethod
    def of(cls, message: operations_pb2.RegionView) -> "Region":
        """Read the message."""
        return cls(
            region=message.region,
            ring=message.ring,
            rtt_ms=message.rtt_ms,
            pools=tuple(Pool.of(pool) for pool in message.pools),
            waiting=message.waiting,
            snapshot_age_ms=message.snapshot_age_ms,
            usable=message.usable,
            trouble=message.trouble,
        )


@dataclass(frozen=True, slots=True)
class Regions:
    """The fleet as seen from one router: home first, then by ring and round-trip time."""

    home_region: str
    regions: tuple[Region, ...]

    @classmethod
    def of(cls, message: operations_pb2.ListRegionsResponse) -> "Regions":
        """Read the message."""
        return cls(message.home_region, tuple(Region.of(region) for region in message.regions))


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as its region's ledger knows it."""

    worker: str
    incarnation: str
    address: str
    state: str
    """One of "ready", "draining", or "detached" (its stream broke; no new jobs; gone when its lease ends)."""
    slots: int
    busy: int
    variants: tuple[str, ...]
    service_ms: int
    lease_left_ms: int
    """Time until its lease ends without a heartbeat."""

    @classmethod
    def of(cls, message: operations_pb2.WorkerView) -> "Worker":
        """Read the message."""
        return cls(
            worker=message.worker,
            incarnation=message.incarnation,
            address=message.address,
            state=message.state,
            slots=message.slots,
            busy=message.busy,
            variants=tuple(message.variants),
            service_ms=message.service_ms,
            lease_left_ms=message.lease_left_ms,
        )


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of one region, by name."""

    region: str
    workers: tuple[Worker, ...]

    @classmethod
    def of(cls, message: operations_pb2.ListWorkersResponse) -> "Workers":
        """Read the message."""
        return cls(message.region, tuple(Worker.of(worker) for worker in message.workers))


@dataclass(frozen=True, slots=True)
class Decision:
    """One step of the policy: what happened, what was decided, why, and the numbers it saw."""

    at_us: int
    """Time since arrival."""
    event: str
    command: str
    region: str
    """Region the command is about; empty if none."""
    reason: str
    """A name of the contract's `Reason`."""
    attempt: int
    home_load: float
    """Busy over slots of home, 0 to 1."""
    pressure: float
    """Pressure that the job met and that drives its start delay: (other busy slots + waiting) / slots, at most 1."""
    share: float
    """Share of granted jobs that start later at this pressure."""
    draw: float
    """Random draw in [0, 1) that the decision used."""
    delay_us: int
    """When the command takes effect, after `at_us`."""
    snapshot_age_us: int
    """Age of the region's snapshot; -1 if none."""
    refusal: str
    """A name of the contract's `RefusalReason`; empty if the event was no refusal."""
    text: str
    """One readable sentence."""

    @classmethod
    def of(cls, message: operations_pb2.Decision) -> "Decision":
        """Read the message."""
        refusal = wire_name(peering_pb2.RefusalReason, message.refusal, "REFUSAL_REASON_") if message.refusal else ""
        return cls(
            at_us=message.at_us,
            event=message.event,
            command=message.command,
            region=message.region,
            reason=wire_name(outcome_pb2.Reason, message.reason, "REASON_"),
            attempt=message.attempt,
            home_load=message.home_load,
            pressure=message.pressure,
            share=message.share,
            draw=message.draw,
            delay_us=message.delay_us,
            snapshot_age_us=message.snapshot_age_us,
            refusal=refusal,
            text=message.text,
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole story of one request, decisions in the order they were taken."""

    request_id: str
    home_region: str
    model: str
    decisions: tuple[Decision, ...]
    outcome: Outcome
    """`UNSPECIFIED` while it runs."""
    arrived_unix_us: int
    served_region: str
    """Empty if none."""

    @classmethod
    def of(cls, message: operations_pb2.ExplainResponse) -> "Explanation":
        """Read the message."""
        return cls(
            request_id=message.request_id,
            home_region=message.home_region,
            model=message.model,
            decisions=tuple(Decision.of(decision) for decision in message.decisions),
            outcome=Outcome.of_number(message.outcome),
            arrived_unix_us=message.arrived_unix_us,
            served_region=message.served_region,
        )
