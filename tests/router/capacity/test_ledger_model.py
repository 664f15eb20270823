"""The real ledger and the plain one, driven side by side through random histories: every answer has to be the same, and what the
store holds afterwards has to add up.

Histories stay below the number of expiries that one act handles (64), where the real ledger may put some off.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from localfleet.valkey import EmbeddedValkey
from router.capacity.keyspace import Key, meta_key, region_prefix
from router.capacity.ledger import (
    LedgerTimings,
    ReservationRequest,
    Reserved,
    SlotLedger,
    VariantOffer,
    WorkerRegistration,
)
from tests.router.capacity.stands import PATIENT_US, REGIONS, clocked_stand, plain_stand

TIMINGS = LedgerTimings(
    lease_us=4_000, reservation_us=10_000, rebuild_us=1_500, request_us=20_000, call_timeout_us=PATIENT_US
)
STEPS_US = [1, 100, 1_000, 1_500, 3_999, 4_000, 11_000, 3_000_000]
WORKERS = st.sampled_from(["a", "b", "c", "d:é"])
INCARNATIONS = st.sampled_from(["1", "2", "3"])
RESERVATIONS = st.sampled_from([f"r{number}" for number in range(12)])
MODELS = st.sampled_from(["portrait", "landscape", "unheard-of"])
VARIANTS = st.sampled_from(["fast", "fine", "canary"])
OFFERS = st.lists(
    st.builds(
        VariantOffer,
        model=st.sampled_from(["portrait", "landscape"]),
        variant=VARIANTS,
        digest=st.sampled_from(["d1", "d2"]),
        service_us=st.integers(1, 20_000),
    ),
    max_size=4,
).map(tuple)
RUNNING = st.lists(RESERVATIONS, max_size=5).map(tuple)
SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])


class LedgerPair(RuleBasedStateMachine):
    """One history."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.region = next(REGIONS)
        self.real = clocked_stand(self.url, TIMINGS, self.region)
        self.plain = plain_stand(TIMINGS)
        self.store: Any = redis.Redis.from_url(self.url, decode_responses=True)
        self.fence = 0
        self.epoch = 0

    def teardown(self) -> None:
        self.runner.run(self.real.ledger.close())
        self.store.flushall()
        self.store.close()
        self.runner.close()

    def run(self, what: Awaitable[None]) -> None:
        async def waiting() -> None:
            await what

        self.runner.run(waiting())

    def both(self, act: Callable[[SlotLedger], Awaitable[Any]]) -> Any:
        async def each() -> tuple[Any, Any]:
            return await act(self.real.ledger), await act(self.plain.ledger)

        real, plain = self.runner.run(each())
        assert real == plain
        return real

    @initialize()
    def open(self) -> None:
        self.both(lambda ledger: ledger.open())
        self.advance(TIMINGS.rebuild_us)

    @rule(us=st.sampled_from(STEPS_US))
    def advance(self, us: int) -> None:
        self.run(self.real.advance(us))
        self.run(self.plain.advance(us))

    @rule(us=st.sampled_from(STEPS_US))
    def step_back(self, us: int) -> None:
        self.advance(-us)

    @rule()
    def wipe(self) -> None:
        self.run(self.real.wipe())
        self.run(self.plain.wipe())

    @rule(worker=WORKERS, incarnation=INCARNATIONS, slots=st.integers(1, 4), variants=OFFERS, running=RUNNING)
    def register(
        self, worker: str, incarnation: str, slots: int, variants: tuple[VariantOffer, ...], running: tuple[str, ...]
    ) -> None:
        registration = WorkerRegistration(worker, incarnation, f"{worker}:1", slots, variants, running)
        answer = self.both(lambda ledger: ledger.register(registration))
        self.saw_epoch(answer.epoch)

    @rule(
        worker=WORKERS,
        incarnation=INCARNATIONS,
        running=RUNNING,
        service_us=st.dictionaries(VARIANTS, st.integers(1, 20_000), max_size=2),
    )
    def heartbeat(
        self, worker: str, incarnation: str, running: tuple[str, ...], service_us: dict[str, int]
    ) -> None:
        answer = self.both(lambda ledger: ledger.heartbeat(worker, incarnation, running, service_us))
        self.saw_epoch(answer.epoch)

    @precondition(lambda self: self.statuses())
    @rule(data=st.data())
    def heartbeats_of_all(self, data: st.DataObject) -> None:
        for status in self.statuses():
            running = data.draw(st.lists(st.sampled_from([*status.reservations, "r0"]), max_size=4).map(tuple))
            self.heartbeat(status.worker, status.incarnation, running, {})

    @rule(worker=WORKERS, incarnation=INCARNATIONS)
    def drain(self, worker: str, incarnation: str) -> None:
        self.both(lambda ledger: ledger.drain(worker, incarnation))

    @rule(worker=WORKERS, incarnation=INCARNATIONS, gone=st.booleans())
    def detach(self, worker: str, incarnation: str, gone: bool) -> None:
        self.both(lambda ledger: ledger.detach(worker, incarnation, gone))

    @rule(
        id_=RESERVATIONS,
        model=MODELS,
        share=SHARES,
        exclude=st.frozensets(WORKERS, max_size=2),
        variant=st.none() | VARIANTS,
    )
    def reserve(self, id_: str, model: str, share: float, exclude: frozenset[str], variant: str | None) -> None:
        existed = any(id_ in status.reservations for status in self.statuses())
        request = ReservationRequest(id_, "q", model, share, exclude, variant)
        answer = self.both(lambda ledger: ledger.reserve(request))
        if isinstance(answer, Reserved):
            self.saw_epoch(answer.epoch, exactly=not existed)
            if not existed:
                assert answer.fence > self.fence
                assert answer.worker not in exclude
            self.fence = max(self.fence, answer.fence)

    @rule(id_=RESERVATIONS)
    def release(self, id_: str) -> None:
        self.both(lambda ledger: ledger.release(id_))
        assert not self.both(lambda ledger: ledger.release(id_))

    @rule(limit=st.integers(1, 5))
    def sweep(self, limit: int) -> None:
        self.both(lambda ledger: ledger.sweep(limit))

    @rule(
        id_=st.sampled_from("xy"),
        digest=st.sampled_from("de"),
        running_us=st.sampled_from([1, 500_000, 60_000_000]),
        share=SHARES,
        floor_per_s=st.sampled_from([0.0, 0.2]),
    )
    def claim_request(self, id_: str, digest: str, running_us: int, share: float, floor_per_s: float) -> None:
        self.both(lambda ledger: ledger.claim_request(id_, digest, running_us, share, floor_per_s))

    @rule(id_=st.sampled_from("xy"), digest=st.sampled_from("de"), succeeded=st.booleans())
    def settle_request(self, id_: str, digest: str, succeeded: bool) -> None:
        self.both(lambda ledger: ledger.settle_request(id_, digest, succeeded=succeeded))

    @rule(floor_per_s=st.sampled_from([0.0, 0.2]))
    def withdraw_retry(self, floor_per_s: float) -> None:
        self.both(lambda ledger: ledger.withdraw_retry(floor_per_s))

    @rule(proposed=st.binary(min_size=1, max_size=4))
    def grant_secret(self, proposed: bytes) -> None:
        self.both(lambda ledger: ledger.grant_secret(proposed))

    def saw_epoch(self, epoch: int, exactly: bool = True) -> None:
        assert epoch >= self.epoch or not exactly
        self.epoch = max(self.epoch, epoch)

    def statuses(self) -> Any:
        return self.both(lambda ledger: ledger.workers())

    @invariant()
    def the_store_adds_up(self) -> None:
        pools = self.both(lambda ledger: ledger.pools())
        statuses = self.statuses()
        keys = set(self.store.scan_iter(region_prefix(self.region) + "*", count=1000))
        expected = {meta_key(self.region), meta_key(self.region) + ":clock"}

        def key(kind: Key, name: str = "") -> str:
            expected.add(region_prefix(self.region) + kind.value + name)
            return region_prefix(self.region) + kind.value + name

        workers = {status.worker: self.store.hgetall(key(Key.WORKER, status.worker)) for status in statuses}
        assert set(self.store.zrange(key(Key.LEASES), 0, -1)) == set(workers)
        reservations = {id_: status.worker for status in statuses for id_ in status.reservations}
        assert set(self.store.zrange(key(Key.EXPIRIES), 0, -1)) == set(reservations)
        for id_, worker in reservations.items():
            assert self.store.hget(key(Key.RESERVATION, id_), "worker") == worker
        groups = self.store.smembers(key(Key.GROUPS))
        assert groups == {worker["group"] for worker in workers.values()}
        by_model: dict[str, set[str]] = {}
        for group in groups:
            members = {name: worker for name, worker in workers.items() if worker["group"] == group}
            ready = {name: int(worker["slots"]) for name, worker in members.items() if worker["state"] == "ready"}
            record = self.store.hgetall(key(Key.GROUP, group))
            assert self.store.smembers(key(Key.LIVE, group)) == set(members)
            assert self.store.smembers(key(Key.READY, group)) == set(ready)
            assert int(record["service_us"]) == sum(int(worker["service_us"]) for worker in members.values())
            taken = [
                f"{int(self.store.hget(key(Key.RESERVATION, id_), 'slot')):04d}:{worker}"
                for id_ in self.store.zrange(key(Key.BUSY, group), 0, -1)
                for worker in [reservations[id_]]
            ]
            free = self.store.zrange(key(Key.FREE, group), 0, -1)
            # Every slot of a ready worker is free or busy, and none is both, or twice.
            assert sorted(taken + free) == sorted(f"{n:04d}:{name}" for name, slots in ready.items() for n in range(slots))
            for model in json.loads(record["models"]):
                by_model.setdefault(model, set()).add(group)
        for model, serving in by_model.items():
            assert self.store.smembers(key(Key.MODEL, model)) == serving
        for status in statuses:
            held = self.store.hgetall(key(Key.HELD, status.worker))
            assert set(held) == set(status.reservations)
            assert len(set(held.values())) == len(held) <= status.slots
        assert sum(pool.slots for pool in pools) == sum(s.slots for s in statuses if s.state == "ready")
        for remembered in (Key.RETIRED, Key.BUDGET):
            key(remembered)
        for request in "xy":
            key(Key.REQUEST, request)
        assert keys <= expected, "keys that nothing refers to"


def test_real_and_plain_ledger_agree(servers: Callable[[str], EmbeddedValkey]) -> None:
    url_ = servers("embedded").url

    class Machine(LedgerPair):
        url = url_

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
