"""The driver in virtual time: commands are carried out in order, and every ending is told as it was."""

import asyncio
import itertools

import pytest

from router.capacity.ledger import LedgerUnavailable
from router.policy.vocabulary import Failure, Outcome, Reason, Refusal
from tests.router.driver_world import RUN_US, Answer, Job, World
from tests.router.virtual_time import Deadlock, run_virtual

GRANT = Answer()
FULL = Answer(Refusal.FULL, slots=4, busy=4)
ALWAYS_LATE = {"start_delay": {"share_max": 1.0, "spread_max_s": 2.0, "pressure_from": 0.0}}


def test_virtual_time_jumps_and_a_deadlock_is_told() -> None:
    async def wait() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time() - began

    assert run_virtual(wait()) == pytest.approx(86_400)

    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtual(stuck())


def test_a_request_that_stays_home() -> None:
    async def scenario() -> None:
        world = World([GRANT])
        ending = await world.live()
        assert ending.outcome is Outcome.OK
        assert (ending.attempts, ending.served_region, ending.work_began) == (1, 0, True)
        assert world.commands() == ["reserve", "dispatch", "finish"]
        assert [decision.event for decision in world.decisions()] == ["arrived", "granted", "done"]
        # Times of the story are the virtual ones: the ask took 20 ms, connecting 10 ms, the run 400 ms.
        assert [decision.at_us for decision in world.decisions()] == [0, 20_000, 30_000 + RUN_US]
        assert ending.wait_us == 20_000
        kinds = [message.WhichOneof("event") for message in world.sent]
        assert kinds == ["placed", "progress", "progress"]
        assert world.sent[0].placed.attempts == 1
        ask = world.books.asks[0]
        assert ask.reservation_id.startswith("request-1.1.0.")
        assert ask.time_left_us == 60_000_000
        world.books.check()
        # The worker frees the slot too; at home the router does not wait for that.
        assert set(world.books.released) == {ask.reservation_id}
        assert world.metric("homeward_placements_total", region="r0", ring="0") == 1

    run_virtual(scenario())


def test_a_wait_then_a_second_round() -> None:
    async def scenario() -> None:
        eta = Answer(Refusal.FULL, eta_us=700_000, slots=4, busy=4)
        world = World([eta, GRANT])
        ending = await world.live()
        assert (ending.outcome, ending.attempts) == (Outcome.OK, 2)
        assert world.commands() == ["reserve", "withdraw_budget", "wait", "reserve", "dispatch", "finish"]
        waiting = world.sent[0].waiting
        assert waiting.attempts == 1
        # The token takes 8 ms of the wait, and the wait lasts at least until a slot frees.
        assert 690 <= waiting.wait_ms <= 1_000
        assert world.paced == 1
        assert world.around.waiting == 0
        assert ending.wait_us >= 700_000
        decisions = world.decisions()
        assert all(early.at_us <= late.at_us for early, late in itertools.pairwise(decisions))
        assert decisions[3].at_us - decisions[1].at_us >= 700_000
        world.books.check()

    run_virtual(scenario())


def test_spilling_asks_home_first_and_every_region_once() -> None:
    async def scenario() -> None:
        world = World([FULL], [FULL], [GRANT])
        ending = await world.live()
        assert (ending.outcome, ending.served_region) == (Outcome.OK, 2)
        assert [decision.region for decision in world.decisions() if decision.command == "reserve"] == ["r0", "r1", "r2"]
        # Another region's worker has finished by itself: giving back what is gone would only cost a round trip.
        assert world.books.released == {}
        world.books.check()

    run_virtual(scenario())


def test_the_start_delay_is_waited_for_and_told() -> None:
    async def scenario() -> None:
        world = World([Answer(busy=4)], overrides=ALWAYS_LATE)
        ending = await world.live()
        placed = world.sent[0].placed
        assert ending.start_delay_us > 0
        assert placed.start_delay_ms == ending.start_delay_us // 1000
        dispatch, finish = world.decisions()[1:]
        assert dispatch.reason == Reason.START_DELAYED
        assert finish.at_us == dispatch.at_us + dispatch.delay_us + 10_000 + RUN_US
        assert world.metric("homeward_start_delay_seconds_count") == 1
        assert ending.wait_us == 20_000, "a start delay is no waiting for a slot"

    run_virtual(scenario())


def test_a_failed_worker_is_left_out_of_the_next_round() -> None:
    async def scenario() -> None:
        world = World([GRANT, Answer(worker="worker-2")], jobs=[Job(Failure.WORKER_LOST), Job()])
        ending = await world.live()
        assert (ending.outcome, ending.attempts) == (Outcome.OK, 2)
        assert [ask.exclude_workers for ask in world.books.asks] == [frozenset(), frozenset({"worker-1"})]
        assert world.workers.workers == ["worker-1", "worker-2"]
        # The first failure is retried at once: no wait, but a token.
        assert world.commands() == ["reserve", "dispatch", "withdraw_budget", "reserve", "dispatch", "finish"]
        assert world.metric("homeward_worker_failures_total", failure="WORKER_LOST") == 1
        assert ending.wait_us == 20_000 + 8_000 + 20_000, "two placements and a token; a failed run is no waiting for a slot"
        world.books.check()

    run_virtual(scenario())


def test_a_slot_whose_answer_was_lost_is_given_back() -> None:
    async def scenario() -> None:
        world = World([FULL], [Answer(lost=True)], [GRANT])
        ending = await world.live()
        assert (ending.outcome, ending.served_region, ending.attempts) == (Outcome.OK, 2, 1)
        assert len(world.books.granted) == 2
        world.books.check()

    run_virtual(scenario())


def test_after_a_wait_a_failed_worker_may_serve_again() -> None:
    async def scenario() -> None:
        world = World([GRANT], jobs=[Job(Failure.WORKER_LOST), Job()])
        ending = await world.live()
        # The only worker is left out of the round that follows at once; after a wait it may try again.
        assert (ending.outcome, ending.attempts) == (Outcome.OK, 3)
        assert [ask.exclude_workers for ask in world.books.asks] == [frozenset(), frozenset({"worker-1"}), frozenset()]
        world.books.check()

    run_virtual(scenario())


def test_a_grant_that_the_worker_refuses_is_given_back_at_once() -> None:
    async def scenario() -> None:
        world = World([GRANT, Answer(worker="worker-2")], jobs=[Job(Failure.WORKER_REFUSED), Job()])
        ending = await world.live()
        assert (ending.outcome, ending.attempts) == (Outcome.OK, 2)
        assert len(world.books.released) == 2
        world.books.check()

    run_virtual(scenario())


def test_input_that_a_worker_rejects_is_not_tried_elsewhere() -> None:
    async def scenario() -> None:
        world = World([GRANT], jobs=[Job(Failure.INPUT_REJECTED)])
        ending = await world.live()
        assert (ending.outcome, ending.attempts, ending.work_began) == (Outcome.INVALID, 1, False)
        assert [violation.field for violation in ending.violations] == ["photo"]
        assert world.commands() == ["reserve", "dispatch", "finish"]
        world.books.check()

    run_virtual(scenario())


def test_workers_that_always_fail_use_the_attempts_up() -> None:
    async def scenario() -> None:
        answers = [Answer(worker=f"worker-{number}") for number in range(20)]
        world = World(answers, jobs=[Job(Failure.WORKER_LOST)], overrides={"attempts_max": 4})
        ending = await world.live()
        assert (ending.outcome, ending.reason) == (Outcome.WORKER_FAILED, Reason.ATTEMPTS_SPENT)
        assert (ending.attempts, ending.work_began) == (4, True)
        assert ending.retry_after_us > 0
        assert "died" in ending.why
        world.books.check()

    run_virtual(scenario())


def test_a_denied_budget_ends_the_request() -> None:
    async def scenario() -> None:
        world = World([FULL], budget=[False])
        ending = await world.live()
        assert (ending.outcome, ending.reason) == (Outcome.RETRY_BUDGET_SPENT, Reason.BUDGET_SPENT)
        assert ending.retry_after_us > 0
        assert world.commands() == ["reserve", "withdraw_budget", "shed"]

    run_virtual(scenario())


def test_a_dead_ledger_gives_no_retry_tokens() -> None:
    async def scenario() -> None:
        world = World([FULL], budget=[LedgerUnavailable("gone")])
        ending = await world.live()
        assert ending.outcome is Outcome.LEDGER_DOWN
        assert world.commands() == ["reserve", "withdraw_budget", "shed"]

    run_virtual(scenario())


def test_a_dead_ledger_is_told_without_waiting() -> None:
    async def scenario() -> None:
        world = World([Answer(Refusal.LEDGER_DOWN, slots=0, busy=0)])
        ending = await world.live()
        assert ending.outcome is Outcome.LEDGER_DOWN
        assert world.commands() == ["reserve", "shed"]
        assert ending.retry_after_us > 0
        assert world.metric("homeward_refusals_total", region="r0", refusal="LEDGER_DOWN") == 1

    run_virtual(scenario())


def test_a_dead_ledger_at_home_fails_over() -> None:
    async def scenario() -> None:
        world = World([Answer(Refusal.LEDGER_DOWN, slots=0, busy=0)], [GRANT])
        ending = await world.live()
        assert (ending.outcome, ending.served_region) == (Outcome.OK, 1)
        assert world.decisions()[1].reason == Reason.HOME_FAILED

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("phase", "time_left_us", "answers", "overrides", "job"),
    [
        ("reserve", 30_000, [Answer(takes_us=100_000)], {}, Job()),
        ("budget", 104_000, [Answer(Refusal.FULL, takes_us=20_000, eta_us=1)], {}, Job()),
        ("wait", 300_000, [Answer(Refusal.FULL, eta_us=100_000, slots=4, busy=4), Answer(takes_us=10_000_000)], {}, Job()),
        ("start delay", 150_000, [Answer(busy=4)], ALWAYS_LATE, Job(connects_us=10_000_000)),
        ("connecting", 500_000, [GRANT], {}, Job(connects_us=10_000_000)),
        ("running", 500_000, [GRANT], {}, Job(runs_us=10_000_000)),
    ],
)
def test_the_deadline_passes(
    phase: str, time_left_us: int, answers: list[Answer], overrides: dict[str, object], job: Job
) -> None:
    async def scenario() -> None:
        budget_us = 1_000_000 if phase == "budget" else 8_000
        world = World(answers, jobs=[job], overrides=overrides, budget_us=budget_us)
        began_us = world.clock.now_us()
        ending = await world.live(time_left_us)
        assert (ending.outcome, ending.reason) == (Outcome.DEADLINE_EXCEEDED, Reason.DEADLINE_PASSED), phase
        assert world.decisions()[-1].at_us == time_left_us, "exactly at the deadline"
        # What follows is only giving back: the rest of an ask that was under way, and the release.
        assert world.clock.now_us() - began_us <= time_left_us + 10_000_000 + 5_000
        assert ending.work_began == (phase == "running")
        world.books.check()
        assert len(world.books.released) == (0 if phase in ("running", "budget") else 1)

    run_virtual(scenario())


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    async def scenario() -> None:
        world = World([GRANT])
        ending = await world.live(time_left_us=1_000)
        assert ending.outcome is Outcome.DEADLINE_HOPELESS
        assert world.books.asks == []

    run_virtual(scenario())


def test_a_worker_that_says_deadline_exceeded() -> None:
    async def scenario() -> None:
        """Its clock is wrong, for the request has time left: another worker may do better."""
        world = World([GRANT, Answer(worker="worker-2")], jobs=[Job(says_deadline=True), Job()])
        ending = await world.live()
        assert (ending.outcome, ending.attempts, ending.work_began) == (Outcome.OK, 2, True)
        world.books.check()

    run_virtual(scenario())


def test_the_waiting_room_is_bounded() -> None:
    async def scenario() -> None:
        world = World([Answer(Refusal.FULL, eta_us=500_000, slots=4, busy=4)], overrides={"waiting_max": 3})
        endings = await asyncio.gather(*(world.live(request_id=f"request-{number}") for number in range(10)))
        assert world.around.waiting == 0
        assert sum(ending.outcome is Outcome.WAITING_FULL for ending in endings) >= 7, "they all asked the budget at once"
        assert world.metric("homeward_requests_waiting") == 0

    run_virtual(scenario())


def test_the_same_seed_decides_the_same() -> None:
    async def scenario() -> list[tuple[int, str, float]]:
        full = Answer(Refusal.FULL, slots=4, busy=4)
        world = World([full, full, GRANT], seed=7)
        await world.live()
        return [(decision.at_us, decision.command, decision.draw) for decision in world.decisions()]

    assert run_virtual(scenario()) == run_virtual(scenario())


def test_a_name_means_another_worker_in_another_region() -> None:
    async def scenario() -> None:
        full = Answer(Refusal.FULL, slots=4, busy=4)
        # The other region's worker-1 fails; home's worker-1 has nothing to do with it.
        world = World([full, GRANT], [GRANT], jobs=[Job(Failure.WORKER_LOST), Job()])
        ending = await world.live()
        assert (ending.outcome, ending.attempts, ending.served_region) == (Outcome.OK, 2, 0)
        assert world.workers.workers == ["worker-1", "worker-1"]

    run_virtual(scenario())
