"""What this router knows of every region's capacity now: the board that the policy's `View` is read from.

Home's figures come from its own ledger, the others' from their snapshots. Between two snapshots the board corrects itself by
what it saw happen: a grant takes one offered slot away, a refusal takes all of them. It is knowledge, not a decision.
"""

from dataclasses import dataclass, field

from homeward.v1 import peering_pb2
from router.capacity.ledger import SLOTS_PER_WORKER_MAX, WORKERS_PER_REGION_MAX
from router.policy.state import View
from router.topology import Topology

POOLS_PER_SNAPSHOT_MAX = 256
SLOTS_PER_POOL_MAX = WORKERS_PER_REGION_MAX * SLOTS_PER_WORKER_MAX
SERVICE_MS_MAX = 86_400_000


class ImpossibleSnapshot(ValueError):
    """A snapshot says something that cannot be true; it is dropped and counted."""


@dataclass(slots=True)
class RegionFigures:
    """The last snapshot of one region."""

    pools: list[peering_pb2.PoolCapacity] = field(default_factory=list)
    waiting: int = 0
    as_of_us: int | None = None
    """Instant, on the router's clock, at which the numbers were true; None: nothing was ever heard."""
    ledger_down: bool = False
    trouble: str = ""
    """Why nothing newer comes, in one line."""


def check_snapshot(snapshot: peering_pb2.WatchCapacityResponse, region: str) -> None:
    """Raise `ImpossibleSnapshot` for numbers that cannot be true."""
    if snapshot.region != region:
        raise ImpossibleSnapshot(f"snapshot of {snapshot.region!r} where {region!r} was expected")
    if len(snapshot.pools) > POOLS_PER_SNAPSHOT_MAX:
        raise ImpossibleSnapshot(f"{len(snapshot.pools)} pools, at most {POOLS_PER_SNAPSHOT_MAX} are accepted")
    if snapshot.waiting < 0 or snapshot.age_ms < 0 or snapshot.epoch < 0:
        raise ImpossibleSnapshot("negative waiting, age or epoch")
    for pool in snapshot.pools:
        whole = 0 <= pool.busy <= SLOTS_PER_POOL_MAX and 0 <= pool.slots <= SLOTS_PER_POOL_MAX
        if not whole or not 0 <= pool.offered <= pool.slots or not 0 <= pool.service_ms <= SERVICE_MS_MAX:
            raise ImpossibleSnapshot(
                f"pool {pool.pool!r}: slots {pool.slots}, busy {pool.busy}, offered {pool.offered}, service {pool.service_ms} ms"
            )


class CapacityBoard:
    """Figures by region index."""

    def __init__(self, topology: Topology, home: int) -> None:
        self.topology = topology
        self.home = home
        self.regions = [RegionFigures() for _ in topology.names]

    def post(self, region: int, snapshot: peering_pb2.WatchCapacityResponse, heard_at_us: int) -> None:
        """Replace a region's figures. Raises `ImpossibleSnapshot` and keeps the old ones."""
        check_snapshot(snapshot, self.topology.names[region])
        self.regions[region] = RegionFigures(
            pools=list(snapshot.pools),
            waiting=snapshot.waiting,
            as_of_us=heard_at_us - snapshot.age_ms * 1000,
            ledger_down=snapshot.ledger_down,
        )

    def lost(self, region: int, trouble: str) -> None:
        """Nothing newer comes from there; the last figures stay and age."""
        self.regions[region].trouble = trouble

    def granted(self, region: int, model: str, slots: int, busy: int) -> None:
        """That region just gave one slot away."""
        for pool in self._serving(region, model):
            pool.offered = max(0, pool.offered - 1)
            if region == self.home and slots == pool.slots:
                pool.busy = min(busy, slots)
            else:
                pool.busy = min(pool.slots, pool.busy + 1)
            return

    def refused(self, region: int, model: str) -> None:
        """That region just said it has none to give."""
        for pool in self._serving(region, model):
            pool.offered = 0

    def age_us(self, region: int, now_us: int) -> int:
        """Age of the figures; -1 if there are none."""
        as_of = self.regions[region].as_of_us
        return -1 if as_of is None else max(0, now_us - as_of)

    def view(self, model: str, now_us: int, waiting: int) -> View:
        """The policy's view for one model. `waiting`: requests waiting in this router."""
        count = len(self.regions)
        offered, serves, load, ages = [0] * count, [0] * count, [1.0] * count, [-1] * count
        run_us = 0
        for region, figures in enumerate(self.regions):
            ages[region] = self.age_us(region, now_us)
            slots = busy = 0
            for pool in self._serving(region, model):
                slots += pool.slots
                busy += pool.busy
                offered[region] += pool.offered
                if region == self.home and pool.service_ms > 0:
                    run_us = max(run_us, pool.service_ms * 1000)
            serves[region] = 1 if slots > 0 else 0
            if slots > 0 and not figures.ledger_down:
                load[region] = min(1.0, busy / slots)
            if figures.ledger_down:
                offered[region] = 0
        return View(
            home=self.home,
            ring=self.topology.rings[self.home],
            rtt_us=self.topology.rtt_us[self.home],
            offered=offered,
            age_us=ages,
            serves=serves,
            load=load,
            waiting=waiting,
            run_us=run_us,
        )

    def _serving(self, region: int, model: str) -> list[peering_pb2.PoolCapacity]:
        return [pool for pool in self.regions[region].pools if model in pool.models]
