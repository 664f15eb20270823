"""What every slot ledger does: the plain one, the real one on the embedded server, and on `redis-server` where PATH has one
(where it has none, nothing is skipped and nothing is said: the embedded server is the reference)."""

import pytest

from router.capacity.ledger import (
    LedgerTimings,
    Refused,
    RequestClaim,
    ReservationRequest,
    Reserved,
    SlotLedger,
    VariantOffer,
    WorkerRegistration,
)
from router.policy.vocabulary import Refusal
from tests.router.capacity.stands import START_US, Stand

TIMINGS = LedgerTimings()
S = 1_000_000
FAST = VariantOffer("portrait", "portrait-fast", "sha256:aa", 2 * S)
FINE = VariantOffer("portrait", "portrait-fine", "sha256:bb", 8 * S)
OTHER = VariantOffer("landscape", "landscape-fine", "sha256:cc", 5 * S)
ODD = 'a:b+c%{}"\\ \n\x00é漢' + "x" * 120


def worker(
    name: str, slots: int = 1, *variants: VariantOffer, incarnation: str = "1", running: tuple[str, ...] = ()
) -> WorkerRegistration:
    return WorkerRegistration(name, incarnation, f"{name}:9000", slots, variants or (FAST,), running)


async def reserve(
    ledger: SlotLedger,
    id_: str,
    *exclude: str,
    model: str = "portrait",
    keep: float = 0.0,
    variant: str | None = None,
) -> Reserved | Refused:
    request = ReservationRequest(id_, f"request-{id_}", model, keep, frozenset(exclude), variant)
    return await ledger.reserve(request)


async def granted(ledger: SlotLedger, id_: str, *exclude: str, **wishes: object) -> Reserved:
    answer = await reserve(ledger, id_, *exclude, **wishes)  # type: ignore[arg-type]
    assert isinstance(answer, Reserved), answer
    return answer


async def refused(ledger: SlotLedger, id_: str, *exclude: str, **wishes: object) -> Refused:
    answer = await reserve(ledger, id_, *exclude, **wishes)  # type: ignore[arg-type]
    assert isinstance(answer, Refused), answer
    return answer


async def totals(ledger: SlotLedger) -> tuple[int, int]:
    rows = await ledger.pools()
    return sum(row.slots for row in rows), sum(row.busy for row in rows)


async def test_a_grant_says_where_and_what(stand: Stand) -> None:
    registered = await stand.ledger.register(worker("w", 2, FAST, FINE))
    answer = await granted(stand.ledger, "r", variant="portrait-fine")
    assert answer == Reserved(
        reservation_id="r",
        worker="w",
        incarnation="1",
        address="w:9000",
        variant="portrait-fine",
        digest="sha256:bb",
        service_us=8 * S,
        epoch=registered.epoch,
        fence=answer.fence,
        slots=2,
        busy=1,
        expires_in_us=TIMINGS.reservation_us,
    )


async def test_asking_twice_gives_the_same_reservation(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 2))
    first = await granted(stand.ledger, "r")
    await stand.advance(1 * S)
    again = await granted(stand.ledger, "r", "w", model="landscape", keep=1.0)
    assert (again.fence, again.worker, again.busy) == (first.fence, "w", 1)
    assert again.expires_in_us == TIMINGS.reservation_us - 1 * S
    assert await totals(stand.ledger) == (2, 1)


async def test_the_slot_idle_longest_comes_first(stand: Stand) -> None:
    for name in ("b", "a", "c"):
        await stand.ledger.register(worker(name))
        await stand.advance(1)
    assert [(await granted(stand.ledger, id_)).worker for id_ in "123"] == ["b", "a", "c"]
    for id_ in "31":
        await stand.advance(1)
        assert await stand.ledger.release(id_)
    assert [(await granted(stand.ledger, id_)).worker for id_ in "45"] == ["c", "b"]


async def test_slots_idle_equally_long_spread_over_workers(stand: Stand) -> None:
    for name in ("a", "b"):
        await stand.ledger.register(worker(name, 12))
    assert [(await granted(stand.ledger, str(number))).worker for number in range(6)] == list("ababab")


async def test_fences_grow(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 8))
    fences = [(await granted(stand.ledger, str(number))).fence for number in range(8)]
    assert fences == sorted(set(fences))


async def test_full_tells_when_the_next_slot_frees(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 2, FAST, FINE))
    await granted(stand.ledger, "slow", variant="portrait-fine")
    await stand.advance(3 * S)
    await granted(stand.ledger, "late", variant="portrait-fine")
    assert await refused(stand.ledger, "r") == Refused(Refusal.FULL, 5 * S, 2, 2)
    for _ in range(2):
        await stand.ledger.heartbeat("w", "1", ("slow", "late"), {})
        await stand.advance(3 * S)
    assert await refused(stand.ledger, "r") == Refused(Refusal.FULL, 50_000, 2, 2)


async def test_spillover_may_not_touch_the_reserve(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 10))
    for number in range(8):
        await granted(stand.ledger, f"spill-{number}", keep=0.15)  # keeps floor(1.5 + 0.5) = 2
    assert await refused(stand.ledger, "spill", keep=0.15) == Refused(Refusal.NOT_OFFERED, 2 * S, 10, 8)
    await granted(stand.ledger, "home-1")
    await granted(stand.ledger, "home-2")
    assert (await refused(stand.ledger, "spill", keep=0.15)).reason is Refusal.FULL


async def test_excluded_workers_are_passed_over(stand: Stand) -> None:
    await stand.ledger.register(worker("a", 50))
    await stand.advance(1)
    await stand.ledger.register(worker("b", 1))
    assert (await granted(stand.ledger, "1", "a")).worker == "b"
    assert (await refused(stand.ledger, "2", "a")).reason is Refusal.FULL
    assert await refused(stand.ledger, "3", "a", "b") == Refused(Refusal.FULL, 2 * S, 51, 1)
    assert (await granted(stand.ledger, "4", "b", "unheard-of")).worker == "a"


async def test_no_worker_serves_it(stand: Stand) -> None:
    assert await refused(stand.ledger, "1") == Refused(Refusal.NO_WORKER, 0, 0, 0)
    await stand.ledger.register(worker("w"))
    assert (await refused(stand.ledger, "2", model="landscape")).reason is Refusal.NO_WORKER
    assert await refused(stand.ledger, "3", variant="portrait-fine") == Refused(Refusal.NO_WORKER, 0, 1, 0)


async def test_a_variant_is_found_wherever_it_is(stand: Stand) -> None:
    for number in range(40):
        await stand.ledger.register(worker(f"fast-{number}", 1, FAST))
    await stand.advance(1)
    await stand.ledger.register(worker("both", 1, FAST, FINE))
    answer = await granted(stand.ledger, "1", variant="portrait-fine")
    assert (answer.worker, answer.slots, answer.busy) == ("both", 41, 1)
    assert await refused(stand.ledger, "2", variant="portrait-fine") == Refused(Refusal.FULL, 8 * S, 41, 1)
    assert (await granted(stand.ledger, "3")).worker == "fast-0"


async def test_pools_are_sets_of_models(stand: Stand) -> None:
    await stand.ledger.register(worker("p", 1, FAST))
    await stand.advance(1)
    await stand.ledger.register(worker("both", 2, OTHER, FAST))
    await stand.ledger.register(worker("too", 3, FINE, OTHER))
    assert [(p.pool, p.models, p.slots, p.busy, p.workers, p.service_us) for p in await stand.ledger.pools()] == [
        ("landscape+portrait", ("landscape", "portrait"), 5, 0, 2, (7 * S // 2 + 13 * S // 2) // 2),
        ("portrait", ("portrait",), 1, 0, 1, 2 * S),
    ]
    assert [(await granted(stand.ledger, id_)).slots for id_ in "12"] == [1, 5]
    assert (await granted(stand.ledger, "3", model="landscape")).worker == "too"
    # Each pool keeps a reserve of its own: 5 slots keep 3, of which 2 are busy; the pool of one slot is full.
    assert await refused(stand.ledger, "4", keep=0.6) == Refused(Refusal.NOT_OFFERED, 2 * S, 6, 3)


async def test_release(stand: Stand) -> None:
    await stand.ledger.register(worker("w"))
    await granted(stand.ledger, "r")
    assert await stand.ledger.release("r")
    assert not await stand.ledger.release("r")
    assert not await stand.ledger.release("never")
    assert await totals(stand.ledger) == (1, 0)


async def test_a_reservation_that_nobody_runs_expires(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 2))
    await granted(stand.ledger, "idle")
    await granted(stand.ledger, "runs")
    for _ in range(4):
        await stand.advance(TIMINGS.reservation_us // 4)
        assert (await stand.ledger.heartbeat("w", "1", ("runs", "unknown"), {})).known
    assert not await stand.ledger.release("idle")
    assert [status.reservations for status in await stand.ledger.workers()] == [("runs",)]


async def test_a_lease_ends_with_all_it_holds(stand: Stand) -> None:
    await stand.ledger.register(worker("dead", 3))
    await stand.advance(1)
    await stand.ledger.register(worker("alive", 1))
    await granted(stand.ledger, "r")
    await stand.advance(TIMINGS.lease_us - 1)
    assert await totals(stand.ledger) == (1, 0)
    assert not await stand.ledger.release("r")
    assert [status.worker for status in await stand.ledger.workers()] == ["alive"]
    seen = await stand.ledger.heartbeat("dead", "1", ("r",), {})
    assert (seen.known, seen.superseded) == (False, False)


async def test_sweep_goes_in_steps(stand: Stand) -> None:
    for name in "abc":
        await stand.ledger.register(worker(name, 2))
    await stand.advance(TIMINGS.lease_us)
    assert [await stand.ledger.sweep(2) for _ in range(3)] == [2, 1, 0]
    await stand.ledger.register(worker("w", 3))
    for id_ in "123":
        await granted(stand.ledger, id_)
    for _ in range(4):
        await stand.ledger.heartbeat("w", "1", (), {})
        await stand.advance(TIMINGS.reservation_us // 4)
    assert [await stand.ledger.sweep(2) for _ in range(3)] == [2, 1, 0]


async def test_a_newer_incarnation_takes_the_name(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 3))
    for id_ in ("lost", "kept"):
        await granted(stand.ledger, id_)
    newer = await stand.ledger.register(worker("w", 2, incarnation="2", running=("kept", "new")))
    assert newer.superseded == "1"
    old = await stand.ledger.heartbeat("w", "1", ("lost",), {})
    assert (old.known, old.superseded) == (False, True)
    assert not await stand.ledger.drain("w", "1")
    assert not await stand.ledger.detach("w", "1", gone=True)
    assert [(s.incarnation, s.reservations) for s in await stand.ledger.workers()] == [("2", ("kept", "new"))]
    assert not await stand.ledger.release("lost")
    # Remembered when the newer one is gone, and the order of registrations decides, not the name.
    for id_ in ("kept", "new"):
        await stand.ledger.release(id_)
    await stand.ledger.detach("w", "2", gone=True)
    assert (await stand.ledger.heartbeat("w", "1", (), {})).superseded
    assert (await stand.ledger.register(worker("w"))).superseded is None
    assert (await stand.ledger.heartbeat("w", "1", (), {})).known
    await stand.ledger.detach("w", "1", gone=True)
    assert not (await stand.ledger.heartbeat("w", "1", (), {})).superseded


async def test_a_resurrected_worker_does_not_take_its_name_back(stand: Stand) -> None:
    """It was stopped (SIGSTOP, a frozen machine) and another one was started in its place."""
    await stand.ledger.register(worker("w"))
    await stand.ledger.register(worker("w", incarnation="2"))
    back = await stand.ledger.register(worker("w"))
    assert (back.superseded, back.accepted) == ("2", False)
    assert [status.incarnation for status in await stand.ledger.workers()] == ["2"]
    assert (await stand.ledger.heartbeat("w", "2", (), {})).known


async def test_nor_if_its_lease_had_ended_before_the_other_came(stand: Stand) -> None:
    await stand.ledger.register(worker("w"))
    await stand.advance(TIMINGS.lease_us)
    await stand.ledger.register(worker("w", incarnation="2"))
    assert not (await stand.ledger.register(worker("w"))).accepted
    # A newcomer takes the name as ever, and so does the old one when nobody else is alive.
    assert (await stand.ledger.register(worker("w", incarnation="3"))).accepted
    await stand.advance(TIMINGS.lease_us)
    assert (await stand.ledger.register(worker("w"))).accepted


async def test_superseded_incarnations_are_forgotten_in_the_end(stand: Stand) -> None:
    await stand.ledger.register(worker("w"))
    await stand.ledger.register(worker("w", incarnation="2"))
    await stand.advance(150 * TIMINGS.lease_us)
    assert not (await stand.ledger.heartbeat("w", "1", (), {})).superseded


async def test_registering_again_keeps_grants_on_their_way(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 3))
    for id_ in "123":
        await granted(stand.ledger, id_)
    again = await stand.ledger.register(worker("w", 2, FINE, running=("3", "3")))
    assert again.superseded is None
    # The one that runs, then the oldest, as far as there are slots.
    assert [(s.reservations, s.slots, s.busy) for s in await stand.ledger.workers()] == [(("1", "3"), 2, 2)]
    assert await totals(stand.ledger) == (2, 2)


async def test_registering_again_renews_only_what_runs(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 2))
    for id_ in ("waits", "runs"):
        await granted(stand.ledger, id_)
    await stand.advance(1 * S)
    await stand.ledger.register(worker("w", 2, running=("runs",)))
    assert (await granted(stand.ledger, "waits")).expires_in_us == TIMINGS.reservation_us - 1 * S
    assert (await granted(stand.ledger, "runs")).expires_in_us == TIMINGS.reservation_us


async def test_running_reservations_are_adopted_up_to_the_slots(stand: Stand) -> None:
    await stand.ledger.register(worker("a", 1, running=("x",)))
    await stand.ledger.register(worker("b", 2, running=("x", "y", "z", "too-many")))
    assert [status.reservations for status in await stand.ledger.workers()] == [("x",), ("y", "z")]
    assert await refused(stand.ledger, "r") == Refused(Refusal.FULL, 2 * S, 3, 3)
    assert await stand.ledger.release("y")
    assert (await granted(stand.ledger, "r")).worker == "b"


async def test_drain(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 3))
    await granted(stand.ledger, "r")
    assert await stand.ledger.drain("w", "1")
    assert await stand.ledger.drain("w", "1")
    assert not await stand.ledger.drain("w", "2")
    assert (await refused(stand.ledger, "s")).reason is Refusal.NO_WORKER
    assert [(p.slots, p.busy, p.workers) for p in await stand.ledger.pools()] == [(0, 0, 1)]
    assert [(s.state, s.slots, s.busy) for s in await stand.ledger.workers()] == [("draining", 3, 1)]
    await stand.advance(TIMINGS.lease_us // 2)
    assert (await stand.ledger.heartbeat("w", "1", ("r",), {})).known
    assert (await granted(stand.ledger, "r")).busy == 0  # asked again: the pool does not count it
    assert await stand.ledger.release("r")
    assert await totals(stand.ledger) == (0, 0)
    await stand.ledger.register(worker("w", 3))
    assert await totals(stand.ledger) == (3, 0)


async def test_detach(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 2))
    await granted(stand.ledger, "r")
    assert await stand.ledger.detach("w", "1", gone=False)
    assert (await refused(stand.ledger, "s")).reason is Refusal.NO_WORKER
    assert [(s.state, s.busy) for s in await stand.ledger.workers()] == [("detached", 1)]
    assert not (await stand.ledger.heartbeat("w", "1", ("r",), {})).known
    await stand.ledger.register(worker("w", 2))
    assert await totals(stand.ledger) == (2, 1)
    await stand.ledger.detach("w", "1", gone=False)
    await stand.advance(TIMINGS.lease_us)
    assert await stand.ledger.workers() == ()
    assert await stand.ledger.pools() == ()


async def test_a_worker_that_says_goodbye_is_gone(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 2))
    assert await stand.ledger.detach("w", "1", gone=True)
    assert not await stand.ledger.detach("w", "1", gone=True)
    assert await stand.ledger.workers() == ()


async def test_a_goodbye_with_something_reserved_is_none(stand: Stand) -> None:
    """A stream that breaks can look like one that was closed, and a job may be younger than the last heartbeat."""
    await stand.ledger.register(worker("w", 2))
    await granted(stand.ledger, "r")
    assert await stand.ledger.detach("w", "1", gone=True)
    assert [(status.state, status.reservations) for status in await stand.ledger.workers()] == [("detached", ("r",))]
    assert await totals(stand.ledger) == (0, 0)
    assert await stand.ledger.release("r")


async def test_measured_service_times_take_over(stand: Stand) -> None:
    await stand.ledger.register(worker("w", 2, FAST, FINE))
    await stand.ledger.register(worker("v", 2, FAST, FINE))
    await stand.ledger.heartbeat("w", "1", (), {"portrait-fast": 4 * S, "unknown": 1})
    (pool,) = await stand.ledger.pools()
    assert pool.service_us == (6 * S + 5 * S) // 2
    v, w = await stand.ledger.workers()
    assert (v.service_us, w.service_us) == (5 * S, 6 * S)
    assert [offer.service_us for offer in w.variants] == [4 * S, 8 * S]
    assert (await granted(stand.ledger, "r", "v", variant="portrait-fast")).service_us == 4 * S


async def test_a_wiped_ledger_rebuilds(stand: Stand) -> None:
    before = await stand.ledger.register(worker("w", 2))
    first = await granted(stand.ledger, "r")
    await stand.wipe()
    assert await refused(stand.ledger, "s") == Refused(Refusal.REBUILDING, TIMINGS.rebuild_us, 0, 0)
    seen = await stand.ledger.heartbeat("w", "1", ("r",), {})
    assert (seen.known, seen.superseded) == (False, False)
    assert seen.epoch > before.epoch
    await stand.ledger.register(worker("w", 2, running=("r",)))
    await stand.advance(TIMINGS.rebuild_us - 1)
    assert await refused(stand.ledger, "s") == Refused(Refusal.REBUILDING, 1, 2, 1)
    assert (await granted(stand.ledger, "r")).fence > first.fence  # what exists is answered all the same
    await stand.advance(1)
    assert (await granted(stand.ledger, "s")).epoch == seen.epoch
    assert (await refused(stand.ledger, "t")).reason is Refusal.FULL


async def test_epoch_of_an_empty_store_is_its_time(stand: Stand) -> None:
    assert await stand.ledger.open() == START_US // 1000
    await stand.advance(100 * S)
    await stand.wipe()
    assert await stand.ledger.open() == stand.now_us // 1000


async def test_time_that_runs_backwards_harms_nothing(stand: Stand) -> None:
    before = (await stand.ledger.register(worker("w", 2))).epoch
    first = await granted(stand.ledger, "r")
    await stand.advance(-3600 * S)
    assert await stand.ledger.open() == before + 1
    second = await granted(stand.ledger, "s")
    assert second.fence > first.fence
    assert [status.lease_left_us for status in await stand.ledger.workers()] == [TIMINGS.lease_us]
    await stand.advance(TIMINGS.lease_us)
    assert await stand.ledger.workers() == ()
    assert await stand.ledger.open() == before + 1


@pytest.mark.parametrize("name", [ODD, "", "-1", "10000", "held:w", "*"])
async def test_odd_names_stay_names(stand: Stand, name: str) -> None:
    offers = (VariantOffer(name, name, name, 7), VariantOffer("m:" + name, name, name, 9))
    registration = WorkerRegistration(name, name, name, 2, offers, (name,))
    await stand.ledger.register(registration)
    await stand.ledger.register(worker("w" + name, 3, *offers))
    answer = await granted(stand.ledger, name + "2", model=name, variant=name)
    assert (answer.worker, answer.variant, answer.slots, answer.busy) in [
        (name, name, 5, 2),
        ("w" + name, name, 5, 2),
    ]
    assert (await stand.ledger.heartbeat(name, name, (name,), {name: 11})).known
    found = {status.worker: status for status in await stand.ledger.workers()}
    assert found[name].variants == tuple(VariantOffer(o.model, o.variant, o.digest, 11) for o in offers)
    assert name in found[name].reservations
    assert (await refused(stand.ledger, "x", name, "w" + name, model=name)).reason is Refusal.FULL
    assert await stand.ledger.release(name)
    assert await stand.ledger.claim_request(name, name, 60_000_000, 0.1, 1.0) is RequestClaim.FRESH
    assert await stand.ledger.drain(name, name)
    assert await stand.ledger.detach(name, name, gone=True)


async def test_a_worker_may_offer_nothing_yet(stand: Stand) -> None:
    await stand.ledger.register(WorkerRegistration("w", "1", "w:1", 2, ()))
    assert [(p.pool, p.models, p.slots, p.service_us) for p in await stand.ledger.pools()] == [("", (), 2, 0)]
    assert (await stand.ledger.heartbeat("w", "1", (), {"v": 1})).known
    assert (await refused(stand.ledger, "r")).reason is Refusal.NO_WORKER
