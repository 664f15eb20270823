"""The home region as others see it, on a ledger that says what a test wants."""

from typing import Any

from router.capacity.ledger import PoolStatus
from router.capacity.ledger_guard import LedgerGuard
from router.capacity_board import POOLS_PER_SNAPSHOT_MAX, check_snapshot
from router.home_region import HomeRegion
from router.metrics import Metrics


class Ledger:
    """As much of a ledger as snapshots and secrets need."""

    def __init__(self) -> None:
        self.now: tuple[PoolStatus, ...] = ()
        self.secret: bytes | None = None
        self.asked = 0

    async def pools(self) -> tuple[PoolStatus, ...]:
        return self.now

    async def grant_secret(self, proposed: bytes) -> bytes:
        self.asked += 1
        self.secret = bytes(self.secret or proposed)
        return bytes(bytearray(self.secret))


def home_on(ledger: Any, secret: bytes | None = None) -> HomeRegion:
    metrics = Metrics("us-east")
    guard = LedgerGuard(ledger, metrics)
    guard.up = True
    return HomeRegion("us-east", guard, metrics, lambda: 3, secret)


def pool(name: str, slots: int = 4, busy: int = 1) -> PoolStatus:
    return PoolStatus(pool=name, models=(name,), slots=slots, busy=busy, workers=1, service_us=50_000)


async def test_what_is_offered() -> None:
    ledger = Ledger()
    home = home_on(ledger)
    ledger.now = (pool("animate", slots=20, busy=5),)
    snapshot = await home.snapshot(0.1)
    # 20 slots, 2 kept, 5 busy.
    assert [(each.slots, each.busy, each.offered, each.service_ms) for each in snapshot.pools] == [(20, 5, 13, 50)]
    assert snapshot.waiting == 3
    check_snapshot(snapshot, "us-east")
    home.guard.up = False
    down = await home.snapshot(0.1)
    assert (down.ledger_down, list(down.pools)) == (True, [])


async def test_a_pool_that_is_gone_has_no_gauges() -> None:
    ledger = Ledger()
    home = home_on(ledger)
    ledger.now = (pool("animate"), pool("restyle"))
    await home.snapshot(0.1)
    registry = home.metrics.registry
    assert registry.get_sample_value("homeward_slots", {"pool": "restyle"}) == 4
    ledger.now = (pool("animate"),)
    await home.snapshot(0.1)
    for gauge in ("homeward_slots", "homeward_slots_busy", "homeward_slots_offered"):
        assert registry.get_sample_value(gauge, {"pool": "restyle"}) is None
        assert registry.get_sample_value(gauge, {"pool": "animate"}) is not None
    ledger.now = ()
    await home.snapshot(0.1)
    await home.snapshot(0.1)


async def test_more_pools_than_anybody_believes() -> None:
    ledger = Ledger()
    home = home_on(ledger)
    ledger.now = tuple(pool(f"p{number}", slots=number) for number in range(1, POOLS_PER_SNAPSHOT_MAX + 50))
    snapshot = await home.snapshot(0.0)
    check_snapshot(snapshot, "us-east")
    assert len(snapshot.pools) == POOLS_PER_SNAPSHOT_MAX
    assert min(each.slots for each in snapshot.pools) == 50, "the smallest are left out"


async def test_the_secret_is_agreed_on_once_an_epoch_and_survives_a_wipe() -> None:
    ledger = Ledger()
    first, second = home_on(ledger), home_on(ledger)
    secret = await first.secret()
    assert await second.secret() == secret
    assert await second.secret() == secret
    assert ledger.asked == 2
    # The second router is the first to meet the empty ledger: it must not put its own proposal there.
    ledger.secret = None
    for home in (second, first):
        home.guard.epoch += 1
        assert await home.secret() == secret


async def test_a_configured_secret_asks_nobody() -> None:
    ledger = Ledger()
    home = home_on(ledger, b"s" * 32)
    for _ in range(3):
        assert await home.secret() == b"s" * 32
        home.guard.epoch += 1
    assert ledger.asked == 0
