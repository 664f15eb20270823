"""Single decisions of the state machine, worked by hand. The laws of whole lives are in `test_step_properties`."""

import pytest

from router.policy.parameters import Parameters, parameters
from router.policy.state import Event, State, View, arrival
from router.policy.step import step
from router.policy.vocabulary import CommandKind, EventKind, Failure, Outcome, Reason, Refusal

from .lives import LAST
from .worlds import SECOND_US

RULES = parameters()
NEAR = View(
    home=0, ring=[0, 1, 2, 3], rtt_us=[0, 9_000, 60_000, 180_000], offered=[0, 5, 5, 5], age_us=[0] * 4, serves=[1] * 4,
    load=[0.5, 0.2, 0.2, 0.2], waiting=0, run_us=5 * SECOND_US,
)  # fmt: skip
MINUTE_US = 60 * SECOND_US


def asking_home(view: View = NEAR, rules: Parameters = RULES, left_us: int = MINUTE_US) -> State:
    return step(arrival(0, left_us), Event(EventKind.ARRIVED.value), 0, 0.5, rules, view)[0]


def refused(refusal: Refusal, region: int = 0, **numbers: int) -> Event:
    return Event(EventKind.REFUSED.value, region=region, refusal=refusal.value, **numbers)


def running(view: View = NEAR, left_us: int = MINUTE_US, run_us: int = 5 * SECOND_US) -> State:
    granted = Event(EventKind.GRANTED.value, region=0, run_us=run_us, slots=10, busy=1)
    return step(asking_home(view, left_us=left_us), granted, 0, 0.5, RULES, view)[0]


def failed(failure: Failure) -> Event:
    return Event(EventKind.FAILED.value, region=0, failure=failure.value)


@pytest.mark.parametrize(
    ("unlock", "region"),
    [([0.0, 0.0, 0.0], 1), ([1.0, 1.0, 1.0], 1), ([1.01, 1.01, 1.01], -1)],
    ids=["always", "when full", "never"],
)
@pytest.mark.parametrize("busy", [4, 10], ids=["slots free for others", "full"])
def test_a_home_that_refused_is_full_for_this_request(busy: int, unlock: list[float], region: int) -> None:
    """Free slots that are not for it (another variant, a worker that failed it) must not keep it from leaving."""
    rules = parameters({"ring_unlock": unlock})
    _, command = step(asking_home(rules=rules), refused(Refusal.FULL, slots=10, busy=busy), 0, 0.5, rules, NEAR)
    assert command.region == region


@pytest.mark.parametrize("refusal", [Refusal.LEDGER_DOWN, Refusal.NO_WORKER, Refusal.DRAINING, Refusal.REBUILDING])
def test_a_home_that_cannot_serve_fails_over_whatever_its_load(refusal: Refusal) -> None:
    """A home that is rebuilding holds every grant back (design, section 4): it counts as fully loaded, too."""
    _, command = step(asking_home(), refused(refusal, slots=10, busy=0), 0, 0.5, RULES, NEAR)
    assert (command.kind, command.region, command.reason) == (CommandKind.RESERVE, 1, Reason.HOME_FAILED)


def test_rings_above_one_never_open_not_even_for_failover() -> None:
    rules = parameters({"ring_unlock": [1.01, 1.01, 1.01]})
    _, command = step(asking_home(rules=rules), refused(Refusal.LEDGER_DOWN), 0, 0.5, rules, NEAR)
    assert (command.kind, command.outcome) == (CommandKind.SHED, Outcome.LEDGER_DOWN)


def test_no_worker_anywhere_is_said_at_once() -> None:
    view = NEAR._replace(serves=[0, 0, 0, 0])
    _, command = step(asking_home(view), refused(Refusal.NO_WORKER), 0, 0.5, RULES, view)
    assert (command.kind, command.outcome) == (CommandKind.SHED, Outcome.MODEL_UNAVAILABLE)


def test_with_one_attempt_the_first_refused_round_is_the_last() -> None:
    rules = parameters({"attempts_max": 1, "regions_per_attempt_max": 1})
    _, command = step(asking_home(rules=rules), refused(Refusal.FULL, slots=1, busy=1), 0, 0.5, rules, NEAR)
    assert (command.kind, command.outcome, command.reason) == (
        CommandKind.SHED, Outcome.NO_CAPACITY, Reason.ATTEMPTS_SPENT
    )  # fmt: skip


def test_a_full_waiting_room_takes_no_token() -> None:
    view = NEAR._replace(waiting=RULES.waiting_max, offered=[0, 0, 0, 0])
    _, command = step(asking_home(view), refused(Refusal.FULL, slots=10, busy=10), 0, 0.5, RULES, view)
    assert (command.kind, command.outcome) == (CommandKind.SHED, Outcome.WAITING_FULL)


@pytest.mark.parametrize("failure", [Failure.WORKER_LOST, Failure.WORKER_REFUSED])
def test_the_first_failure_is_retried_without_a_wait(failure: Failure) -> None:
    budgeting, command = step(running(), failed(failure), SECOND_US, 0.9, RULES, NEAR)
    assert command.kind == CommandKind.WITHDRAW_BUDGET
    _, command = step(budgeting, Event(EventKind.BUDGET_GRANTED.value), SECOND_US, 0.9, RULES, NEAR)
    assert (command.kind, command.region, command.reason) == (CommandKind.RESERVE, 0, Reason.WORKER_FAILED_RETRY)


def test_input_that_a_worker_rejects_is_not_retried() -> None:
    _, command = step(running(), failed(Failure.INPUT_REJECTED), SECOND_US, 0.5, RULES, NEAR)
    assert (command.kind, command.outcome) == (CommandKind.FINISH, Outcome.INVALID)


def test_a_run_that_failed_too_late_did_begin() -> None:
    """DEADLINE_HOPELESS promises that no work began (outcome.proto); after a run has failed that is not true."""
    state = running(left_us=6 * SECOND_US)
    _, command = step(state, failed(Failure.WORKER_LOST), 4 * SECOND_US, 0.5, RULES, NEAR)
    assert command.kind in LAST
    assert command.outcome in (Outcome.DEADLINE_EXCEEDED, Outcome.WORKER_FAILED)


@pytest.mark.parametrize(("busy", "waiting", "pressure"), [(1, 0, 0.0), (8, 0, 0.875), (8, 1, 1.0), (8, 99, 1.0), (0, 0, 0.0)])
def test_the_jobs_own_slot_is_no_pressure(busy: int, waiting: int, pressure: float) -> None:
    granted = Event(EventKind.GRANTED.value, region=0, run_us=5 * SECOND_US, slots=8, busy=busy, waiting=waiting)
    _, command = step(asking_home(), granted, 0, 0.99, RULES, NEAR)
    assert (command.kind, command.pressure, command.at_us) == (CommandKind.DISPATCH, pressure, 0)


@pytest.mark.parametrize(
    ("hold_us", "delay_us"),
    [(0, 2 * SECOND_US), (12 * SECOND_US, 2 * SECOND_US), (6 * SECOND_US, SECOND_US), (1, 0)],
    ids=["unknown", "long", "short", "over"],
)
def test_a_start_delay_ends_while_the_slot_is_held(hold_us: int, delay_us: int) -> None:
    """The serving region holds the slot for its own reservation time, which may be shorter than home's longest delay."""
    rules = parameters({"start_delay": {"share_max": 1.0, "spread_max_s": 4.0}})
    granted = Event(EventKind.GRANTED.value, region=0, run_us=SECOND_US, slots=8, busy=8, waiting=9, hold_us=hold_us)
    _, command = step(asking_home(rules=rules), granted, 0, 0.5, rules, NEAR)
    assert (command.kind, command.at_us) == (CommandKind.DISPATCH, delay_us)


def test_a_second_failure_waits_no_longer_than_the_deadline_allows() -> None:
    """0.1 s is left before the last useful start; the backoff window of attempt 2 is 0.5 s."""
    state = running(left_us=60_100_000)._replace(attempt=2, failures=1)
    budgeting, command = step(state, failed(Failure.WORKER_LOST), 55 * SECOND_US, 0.9, RULES, NEAR)
    assert command.kind == CommandKind.WITHDRAW_BUDGET
    assert 55 * SECOND_US < budgeting.wake_at_us <= 55_100_000


def test_a_grant_that_comes_too_late_does_not_start_a_run() -> None:
    """The slot came after a wait; 10 s are left and the granted variant takes 60 s: the GPU minute would be for nobody."""
    granted = Event(EventKind.GRANTED.value, region=0, run_us=60 * SECOND_US, slots=10, busy=1)
    _, command = step(asking_home(left_us=10 * SECOND_US), granted, 0, 0.5, RULES, NEAR)
    assert command.kind != CommandKind.DISPATCH


@pytest.mark.parametrize(("left_us", "hopeless"), [(5 * SECOND_US - 1, True), (5 * SECOND_US, False), (0, True)])
def test_a_hopeless_deadline_is_refused_on_arrival(left_us: int, hopeless: bool) -> None:
    _, command = step(arrival(0, left_us), Event(EventKind.ARRIVED.value), 0, 0.5, RULES, NEAR)
    assert (command.outcome == Outcome.DEADLINE_HOPELESS) == hopeless


def test_a_wait_that_would_end_too_late_is_shortened() -> None:
    view = NEAR._replace(offered=[0, 0, 0, 0])
    state = asking_home(view, left_us=5_100_000)
    budgeting, command = step(state, refused(Refusal.FULL, slots=10, busy=10), 0, 0.99, RULES, view)
    assert command.kind == CommandKind.WITHDRAW_BUDGET
    assert budgeting.wake_at_us == 99_000  # 0.99 of the 0.1 s that the run leaves, not of the 0.25 s window


@pytest.mark.parametrize("etas_s", [(6, 2), (2, 6), (0, 2), (2, 0)])
def test_the_shortest_known_eta_counts(etas_s: tuple[int, int]) -> None:
    rules = parameters({"regions_per_attempt_max": 2})
    state = asking_home(rules=rules)
    for region, eta_s in enumerate(etas_s):
        full = refused(Refusal.FULL, region=region, slots=10, busy=10, eta_us=eta_s * SECOND_US)
        state, _ = step(state, full, 0, 0.0, rules, NEAR)
    assert (state.wake_at_us, state.wake_reason) == (2 * SECOND_US, Reason.SLOT_ETA)


def test_those_refused_in_the_same_moment_are_told_different_times() -> None:
    """A region without a token sheds everybody in its first round: those told to come back must not come back together."""
    view = NEAR._replace(offered=[0, 0, 0, 0])
    full = refused(Refusal.FULL, slots=10, busy=10)
    denied = Event(EventKind.BUDGET_DENIED.value)
    told_us = []
    for u in (0.0, 1.0 - 2.0**-53):
        state, _ = step(asking_home(view), full, 0, 0.5, RULES, view)
        told_us.append(step(state, denied, 0, u, RULES, view)[1].at_us)
    # Half a cap and up (8 s): the comment of `_shed` says why. A window of base / 2 would be one herd.
    assert told_us[1] - told_us[0] >= RULES.backoff_cap_us // 4


def test_time_to_come_back_counts_those_who_wait() -> None:
    """1,000 requests wait for 10 slots of 60 s: an eta of 6 s is the first one's, not the next one's."""
    view = NEAR._replace(offered=[0, 0, 0, 0], waiting=RULES.waiting_max, run_us=60 * SECOND_US)
    full = refused(Refusal.FULL, slots=10, busy=10, eta_us=6 * SECOND_US)
    state = asking_home(view, left_us=3_600 * SECOND_US)
    command = step(state, full, 0, 1.0 - 2.0**-53, RULES, view)[1]
    assert command.outcome == Outcome.WAITING_FULL
    assert command.at_us >= 6 * SECOND_US + RULES.backoff_cap_us - 1


def test_an_unreachable_neighbour_does_not_take_the_spread_away() -> None:
    """Home: 10 slots of 5 s, 16 waiting, next slot in 1 s. Whom else the round asked must not bring the waiters together."""
    view = NEAR._replace(waiting=16)
    rules = parameters({"regions_per_attempt_max": 2})
    full = refused(Refusal.FULL, slots=10, busy=10, eta_us=SECOND_US)
    state, command = step(asking_home(view, rules), full, 0, 0.5, rules, view)
    assert command.region == 1
    state, _ = step(state, refused(Refusal.UNREACHABLE, region=1), 0, 0.5, rules, view)
    assert state.wake_at_us == SECOND_US + 4 * SECOND_US  # eta + 0.5 * (5 s * 16 / 10)


def test_a_region_that_keeps_its_slots_says_nothing_about_when_we_get_one() -> None:
    """NOT_OFFERED every 50 ms is not a slot for us: home's own 6 s is the time to wait for."""
    view = NEAR._replace(waiting=0)
    rules = parameters({"regions_per_attempt_max": 2})
    state, _ = step(asking_home(view, rules), refused(Refusal.FULL, slots=10, busy=10, eta_us=6 * SECOND_US), 0, 0.5, rules, view)
    kept = refused(Refusal.NOT_OFFERED, region=1, slots=100, busy=95, eta_us=50_000)
    state, _ = step(state, kept, 0, 0.0, rules, view)
    assert state.wake_at_us == 6 * SECOND_US
