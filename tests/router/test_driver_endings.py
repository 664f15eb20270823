"""A request may end at any instant. Whatever was claimed for it by then is given back, and nothing else.

A grid of instants over a life that passes every phase, then lives, instants and deadlines at random. `Books.check` holds the rule.
"""

import asyncio
import random

import pytest

from router.capacity.ledger import LedgerUnavailable
from router.policy.vocabulary import Failure, Outcome, Reason, Refusal
from tests.router.driver_world import Answer, Job, World
from tests.router.virtual_time import run_virtual

GRANT = Answer()
ALWAYS_LATE = {"start_delay": {"share_max": 1.0, "spread_max_s": 0.6, "pressure_from": 0.0}}


def full_life(emit_us: int = 0) -> World:
    """Refused at home, a wait, a slot, a start delay, a worker that fails, a second worker, the end."""
    return World(
        [Answer(Refusal.FULL, eta_us=100_000, slots=4, busy=4), Answer(busy=4), Answer(busy=4, worker="worker-2")],
        jobs=[Job(Failure.WORKER_LOST), Job()],
        overrides=ALWAYS_LATE,
        emit_us=emit_us,
        seed=3,
    )


async def cancelled_at(world: World, at_us: int, time_left_us: int = 60_000_000) -> Outcome | None:
    """Cancel the request at this instant of its life and let everything settle; None unless it had ended by then."""
    living = asyncio.create_task(world.live_unsettled(time_left_us))
    await asyncio.wait([living], timeout=at_us / 1e6)
    living.cancel()
    await asyncio.wait([living])
    outcome = None
    if living.cancelled():
        if world.around.record.find("request-1") is not None:
            last = world.decisions()[-1]
            assert last.reason == Reason.CALLER_CANCELLED
            assert abs(last.at_us - at_us) <= 1
    else:
        outcome = living.result().outcome
    await world.settle()
    return outcome


def uncancelled_us(emit_us: int) -> tuple[int, list[str]]:
    async def scenario() -> tuple[int, list[str]]:
        world = full_life(emit_us)
        began_us = world.clock.now_us()
        ending = await world.live()
        assert (ending.outcome, ending.attempts) == (Outcome.OK, 3)
        return world.clock.now_us() - began_us, world.commands()

    return run_virtual(scenario())


@pytest.mark.parametrize("emit_us", [0, 30_000])
def test_cancelled_at_every_instant(emit_us: int) -> None:
    length_us, commands = uncancelled_us(emit_us)
    assert commands == [
        "reserve", "withdraw_budget", "wait", "reserve", "dispatch", "withdraw_budget", "reserve", "dispatch", "finish",
    ]  # fmt: skip
    met: set[str] = set()
    for at_us in range(0, length_us, 2_500):

        async def scenario(at_us: int = at_us) -> str:
            world = full_life(emit_us)
            await cancelled_at(world, at_us)
            world.books.check()
            assert world.around.waiting == 0
            if world.around.record.find("request-1") is None:
                return ""
            assert world.commands()[-1] == "finish"
            return world.commands()[-2]

        try:
            met.add(run_virtual(scenario()))
        except AssertionError as error:
            raise AssertionError(f"cancelled at {at_us} us (emit {emit_us} us)") from error
    assert met >= {"reserve", "withdraw_budget", "wait", "dispatch"}, "the grid missed a phase"


@pytest.mark.parametrize(
    "point",
    ["reserve under way", "slot granted, answer under way", "budget", "backoff", "pace", "start delay", "connecting", "running"],
)
def test_what_each_point_gives_back(point: str) -> None:
    async def scenario() -> None:
        refused = Answer(Refusal.FULL, eta_us=100_000, slots=4, busy=4)
        # Each: world, instant, reservations released, jobs that a worker goes on owning.
        late = World([Answer(busy=4)], overrides=ALWAYS_LATE, seed=3) if point == "start delay" else World([GRANT])
        world, at_us, released, owned = {
            "reserve under way": (World([GRANT]), 5_000, 1, 0),
            "slot granted, answer under way": (World([GRANT]), 15_000, 1, 0),
            "budget": (World([refused], budget_us=500_000), 100_000, 0, 0),
            "backoff": (World([refused]), 60_000, 0, 0),
            "pace": (World([refused], pace_us=50_000_000), 5_000_000, 0, 0),
            "start delay": (late, 25_000, 1, 0),
            "connecting": (World([GRANT], jobs=[Job(connects_us=1_000_000)]), 100_000, 1, 0),
            "running": (World([GRANT]), 200_000, 0, 1),
        }[point]
        assert await cancelled_at(world, at_us) is None, "it was to be cancelled before its end"
        world.books.check()
        assert len(world.books.released) == released
        assert len(world.books.taken_over) == owned
        assert world.commands()[-1] == "finish"
        story = world.around.record.find("request-1")
        assert story is not None
        assert story.outcome is Outcome.CANCELLED

    run_virtual(scenario())


def test_a_request_cancelled_before_its_first_step_leaves_nothing() -> None:
    async def scenario() -> None:
        world = World([GRANT])
        assert await cancelled_at(world, 0) is None
        world.books.check()

    run_virtual(scenario())


def random_world(luck: random.Random) -> World:
    """Any answers, jobs, budgets and durations."""

    def answer() -> Answer:
        refusals = [Refusal.NONE, Refusal.NONE, Refusal.FULL, Refusal.NOT_OFFERED, Refusal.NO_WORKER, Refusal.LEDGER_DOWN,
                    Refusal.DRAINING, Refusal.UNREACHABLE, Refusal.REBUILDING]  # fmt: skip
        slots = luck.randint(0, 8)
        return Answer(
            refusal=luck.choice(refusals),
            takes_us=luck.choice([2, 1_000, 20_000, 600_000]),
            eta_us=luck.choice([0, 1, 50_000, 900_000]),
            worker=f"worker-{luck.randint(1, 3)}",
            slots=slots,
            busy=luck.randint(0, slots),
        )

    def job() -> Job:
        return Job(
            failure=luck.choice([Failure.NONE, Failure.NONE, *Failure]),
            connects_us=luck.choice([0, 1, 10_000, 300_000]),
            runs_us=luck.choice([1, 10_000, 400_000, 3_000_000]),
            steps=luck.randint(1, 4),
            says_deadline=luck.random() < 0.1,
        )

    regions = luck.randint(1, 4)
    return World(
        *([answer() for _ in range(luck.randint(1, 6))] for _ in range(regions)),
        jobs=[job() for _ in range(luck.randint(1, 6))],
        overrides=luck.choice([{}, ALWAYS_LATE, {"attempts_max": 2}, {"waiting_max": 0}]),
        budget=[luck.choice([True, True, False, LedgerUnavailable("gone")]) for _ in range(4)],
        budget_us=luck.choice([0, 5_000, 200_000]),
        pace_us=luck.choice([0, 10_000]),
        emit_us=luck.choice([0, 1, 40_000]),
        seed=luck.randint(0, 2**31),
    )


LIVES = 3_000


def test_random_lives_leave_nothing_behind() -> None:
    endings: dict[str, int] = {}
    for seed in range(LIVES):
        luck = random.Random(seed)

        async def scenario(luck: random.Random = luck) -> str:
            world = random_world(luck)
            time_left_us = luck.choice([1, 50_000, 700_000, 5_000_000, 60_000_000])
            at_us = luck.randint(0, luck.choice([30_000, 1_000_000, 4_000_000]))
            outcome = await cancelled_at(world, at_us, time_left_us)
            world.books.check()
            assert world.around.waiting == 0
            assert not world.around.loose_ends
            return "cancelled" if outcome is None else outcome.name

        try:
            ended = run_virtual(scenario())
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
        endings[ended] = endings.get(ended, 0) + 1
    # A generator that always makes the same life proves nothing.
    assert endings["cancelled"] > LIVES / 10
    assert endings.get("INTERNAL", 0) == 0
    assert {"OK", "INVALID", "DEADLINE_EXCEEDED", "DEADLINE_HOPELESS", "RETRY_BUDGET_SPENT", "LEDGER_DOWN"} <= set(endings), endings


def test_many_requests_at_once_and_a_storm_of_cancellations() -> None:
    async def scenario(seed: int) -> None:
        luck = random.Random(seed)
        world = random_world(luck)

        async def one(number: int) -> None:
            living = asyncio.create_task(world.live(request_id=f"request-{number}"))
            await asyncio.wait([living], timeout=luck.random() * 3)
            living.cancel()
            await asyncio.wait([living])
            if not living.cancelled():
                living.result()

        await asyncio.gather(*(one(number) for number in range(50)))
        await world.settle()
        world.books.check()
        assert world.around.waiting == 0

    for seed in range(20):
        try:
            run_virtual(scenario(seed))
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
