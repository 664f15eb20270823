"""The life of one request as a pure state machine: `step(state, event, now_us, u, parameters, view) -> (state, command)`.

    ARRIVED ─► RESERVE home ─ GRANTED ─► DISPATCH ─ DONE ─► FINISH ok
                 │ REFUSED                  │ FAILED
                 ▼                          ▼
               RESERVE next open ring     WITHDRAW_BUDGET (first failure: no wait)
                 │ none left
                 ▼
               WITHDRAW_BUDGET ─ BUDGET_GRANTED ─► WAIT ─ WOKEN ─► RESERVE home (next attempt)
                 └ BUDGET_DENIED ─► SHED

The interpreter carries the command out and comes back with the event that says how it went. Shared things (slots, budget)
are never touched here: losing a race for them is just an event. CANCELLED and DEADLINE may come in any phase. An attempt is
one placement round and the run that follows it.

The retry token is taken on *entering* a wait, so that requests in backoff count against the budget (Envoy issue 30205).
"""

from router.policy.backoff import wait_us, window_us, work_off_us
from router.policy.jit import shared
from router.policy.parameters import Parameters
from router.policy.placement import another_serves, next_region
from router.policy.start_delay import delay_us, pressure_of, share_of
from router.policy.state import Command, Event, Round, State, View, failed_once_more, moved, planned
from router.policy.vocabulary import CommandKind, EventKind, Failure, Outcome, Phase, Reason, Refusal

# `.value` is spelled out because a compiled tuple needs plain ints: an IntEnum member would give it another type.
_FULL_BITS = (1 << Refusal.FULL) | (1 << Refusal.NOT_OFFERED) | (1 << Refusal.REBUILDING)
_UNUSABLE_BITS = (1 << Refusal.LEDGER_DOWN) | (1 << Refusal.NO_WORKER) | (1 << Refusal.DRAINING) | (1 << Refusal.REBUILDING)
START_MARGIN_US = 5_000_000
"""A delayed job starts at least this long before its reservation runs out: time to reach the worker."""
_LEDGER_DOWN_BIT = 1 << Refusal.LEDGER_DOWN


@shared
def _ended(state: State, kind: int, outcome: int, reason: int, at_us: int, u: float) -> tuple[State, Command]:
    ended = moved(state, Phase.ENDED.value, state.attempt, state.region, state.round)
    return ended, Command(kind, state.region, at_us, outcome, reason, state.round.home_load, 0.0, 0.0, u)


@shared
def _finish(state: State, outcome: int, reason: int, now_us: int, u: float) -> tuple[State, Command]:
    return _ended(state, CommandKind.FINISH.value, outcome, reason, now_us, u)


@shared
def _shed(
    state: State, outcome: int, reason: int, now_us: int, u: float, parameters: Parameters, view: View
) -> tuple[State, Command]:
    """Refuse, with a truthful and jittered time to come back: what the next wait would have been."""
    eta = state.round.eta_us
    work_off = work_off_us(max(view.run_us, state.run_us), view.waiting, state.round.home_slots, parameters)
    back = wait_us(max(state.attempt, 1), eta, max(work_off, parameters.backoff_cap_us // 2), u, parameters)
    if eta <= 0:
        # Nothing is known about when it gets better: half a cap and up, so that the refused do not come back in a herd.
        back = parameters.backoff_cap_us // 2 + int(u * (parameters.backoff_cap_us // 2))
    return _ended(state, CommandKind.SHED.value, outcome, reason, now_us + back, u)


@shared
def _ask(state: State, region: int, attempt: int, asking: Round, reason: int, now_us: int, u: float) -> tuple[State, Command]:
    """Ask `region` for a slot, as the next act of the round `asking`."""
    tried = asking.tried | (1 << region)
    asked = Round(tried, asking.asked + 1, asking.refusals, asking.home_load, asking.eta_us, asking.home_slots)
    asked_state = moved(state, Phase.RESERVING.value, attempt, region, asked)
    command = Command(
        CommandKind.RESERVE.value, region, now_us, Outcome.NONE.value, reason, asking.home_load, 0.0, 0.0, u
    )
    return asked_state, command


@shared
def _begin_round(state: State, reason: int, now_us: int, u: float, view: View) -> tuple[State, Command]:
    empty = Round(0, 0, 0, view.load[view.home], 0, 0)
    return _ask(state, view.home, state.attempt + 1, empty, reason, now_us, u)


@shared
def _arrived(state: State, now_us: int, u: float, view: View) -> tuple[State, Command]:
    left = state.deadline_at_us - now_us
    if left <= 0 or left < view.run_us:
        # No time to come back is named: the same deadline would be hopeless then, too.
        hopeless, why = Outcome.DEADLINE_HOPELESS.value, Reason.DEADLINE_TOO_NEAR.value
        return _ended(state, CommandKind.SHED.value, hopeless, why, now_us, u)
    return _begin_round(state, Reason.HOME_FIRST.value, now_us, u, view)


@shared
def _too_late(state: State, now_us: int, u: float, parameters: Parameters, view: View) -> tuple[State, Command]:
    """No run fits any more. Only where none was tried may it be said that no work began."""
    outcome = Outcome.DEADLINE_HOPELESS.value if state.failures == 0 else Outcome.WORKER_FAILED.value
    return _shed(state, outcome, Reason.DEADLINE_TOO_NEAR.value, now_us, u, parameters, view)


@shared
def _granted(
    state: State, event: Event, now_us: int, u: float, parameters: Parameters, view: View
) -> tuple[State, Command]:
    run = event.run_us if event.run_us > 0 else view.run_us
    if state.deadline_at_us - now_us < run:
        return _too_late(state, now_us, u, parameters, view)
    slack = state.deadline_at_us - now_us - run - view.rtt_us[event.region]
    if event.hold_us > 0:
        # The slot is held this long; a job that starts later starts on somebody else's.
        slack = min(slack, event.hold_us - START_MARGIN_US)
    # The pressure that the job met: its own slot does not count, or every job of an idle one-slot region would meet 1.
    pressure = pressure_of(max(event.busy - 1, 0), event.waiting, event.slots)
    share = share_of(pressure, parameters)
    delay = delay_us(pressure, u, slack, parameters)
    reason = Reason.START_NOW.value
    if delay > 0:
        reason = Reason.START_DELAYED.value
    elif share > 0.0:
        reason = Reason.START_NOT_DRAWN.value
    start_at = now_us + delay
    starting = planned(state, Phase.STARTING.value, start_at, reason, run)
    command = Command(
        CommandKind.DISPATCH.value, event.region, start_at, Outcome.NONE.value, reason, state.round.home_load,
        pressure, share, u,
    )  # fmt: skip
    return starting, command


@shared
def _retry(
    state: State, wake_at_us: int, reason: int, now_us: int, u: float, parameters: Parameters, view: View
) -> tuple[State, Command]:
    """Ask the budget for the token that another attempt needs, or end if there may be none."""
    if state.attempt >= parameters.attempts_max:
        spent = Outcome.WORKER_FAILED.value if state.phase == Phase.STARTING else Outcome.NO_CAPACITY.value
        return _shed(state, spent, Reason.ATTEMPTS_SPENT.value, now_us, u, parameters, view)
    if wake_at_us > now_us and view.waiting >= parameters.waiting_max:
        return _shed(state, Outcome.WAITING_FULL.value, Reason.WAITING_ROOM_FULL.value, now_us, u, parameters, view)
    budgeting = planned(state, Phase.BUDGETING.value, wake_at_us, reason, state.run_us)
    command = Command(
        CommandKind.WITHDRAW_BUDGET.value, -1, now_us, Outcome.NONE.value, Reason.RETRY_NEEDS_BUDGET.value,
        state.round.home_load, 0.0, 0.0, u,
    )  # fmt: skip
    return budgeting, command


@shared
def _round_refused(
    state: State, now_us: int, u: float, parameters: Parameters, view: View
) -> tuple[State, Command]:
    """No region of this round had a slot: wait if that can help, else say so at once."""
    met = state.round
    if met.refusals & _FULL_BITS == 0:
        # Home itself cannot serve. Another round helps only if it can ask a region that this one did not reach.
        more = next_region(met.tried, 0, met.home_load, parameters, view) >= 0
        if met.refusals & _LEDGER_DOWN_BIT != 0 and not more:
            return _shed(state, Outcome.LEDGER_DOWN.value, Reason.LEDGERS_DOWN.value, now_us, u, parameters, view)
        if not another_serves(parameters, view):
            # No time to come back is named: nobody knows when a worker with this model will come.
            unavailable, nowhere = Outcome.MODEL_UNAVAILABLE.value, Reason.MODEL_NOWHERE.value
            return _ended(state, CommandKind.SHED.value, unavailable, nowhere, now_us, u)
    run = max(view.run_us, state.run_us)
    latest = state.deadline_at_us - now_us - run
    if latest <= 0 or met.eta_us > latest:
        return _too_late(state, now_us, u, parameters, view)
    work_off = work_off_us(run, view.waiting, met.home_slots, parameters)
    wait = wait_us(state.attempt, met.eta_us, work_off, u, parameters)
    if wait > latest:
        # A shorter wait is a smaller chance, but no chance at all lies behind `latest`.
        wait = met.eta_us + int(u * (latest - met.eta_us))
    reason = Reason.SLOT_ETA.value if met.eta_us > 0 else Reason.BACKOFF.value
    return _retry(state, now_us + max(wait, 1), reason, now_us, u, parameters, view)


@shared
def _refused(
    state: State, event: Event, now_us: int, u: float, parameters: Parameters, view: View
) -> tuple[State, Command]:
    met = state.round
    at_home = event.region == view.home
    unusable = (1 << event.refusal) & _UNUSABLE_BITS != 0
    home_load = met.home_load
    if at_home:
        # For this request home has no slot, whatever is free there for others (another variant, a worker that failed it).
        home_load = 1.0
    eta = met.eta_us
    # The slot that frees first in a region that keeps its slots is not for us.
    if event.refusal != Refusal.NOT_OFFERED and event.eta_us > 0 and (eta <= 0 or event.eta_us < eta):
        eta = event.eta_us
    home_slots = event.slots if at_home else met.home_slots
    met = Round(met.tried, met.asked, met.refusals | (1 << event.refusal), home_load, eta, home_slots)
    seen = moved(state, state.phase, state.attempt, state.region, met)
    region = next_region(met.tried, met.asked, home_load, parameters, view)
    if region < 0:
        return _round_refused(seen, now_us, u, parameters, view)
    reason = Reason.NEXT_REGION.value
    if at_home:
        reason = Reason.HOME_FAILED.value if unusable else Reason.RING_UNLOCKED.value
    return _ask(seen, region, seen.attempt, met, reason, now_us, u)


@shared
def _failed(
    state: State, event: Event, now_us: int, u: float, parameters: Parameters, view: View
) -> tuple[State, Command]:
    if event.failure == Failure.INPUT_REJECTED:
        return _finish(state, Outcome.INVALID.value, Reason.INPUT_REJECTED.value, now_us, u)
    failed = failed_once_more(state)
    latest = state.deadline_at_us - now_us - state.run_us
    if latest < 0 or (latest == 0 and failed.failures > 1):
        return _too_late(failed, now_us, u, parameters, view)
    # The first failure says something about one worker; a second may say something about the request or the fleet.
    wake = now_us
    reason = Reason.WORKER_FAILED_RETRY.value
    if failed.failures > 1:
        wake = now_us + max(int(u * min(latest, window_us(failed.attempt, parameters))), 1)
        reason = Reason.BACKOFF.value
    return _retry(failed, wake, reason, now_us, u, parameters, view)


@shared
def _budget_granted(
    state: State, now_us: int, u: float, parameters: Parameters, view: View
) -> tuple[State, Command]:
    if state.wake_at_us <= now_us:
        return _begin_round(state, state.wake_reason, now_us, u, view)
    if view.waiting >= parameters.waiting_max:
        # Others came in while the budget was asked.
        return _shed(state, Outcome.WAITING_FULL.value, Reason.WAITING_ROOM_FULL.value, now_us, u, parameters, view)
    waiting = moved(state, Phase.WAITING.value, state.attempt, -1, state.round)
    command = Command(
        CommandKind.WAIT.value, -1, state.wake_at_us, Outcome.NONE.value, state.wake_reason, state.round.home_load,
        0.0, 0.0, u,
    )  # fmt: skip
    return waiting, command


@shared
def step(
    state: State, event: Event, now_us: int, u: float, parameters: Parameters, view: View
) -> tuple[State, Command]:
    """Decide what one request does next.

    `now_us`: instant of the event, int64 microseconds, on the clock of `state`. `u`: uniform in [0, 1), a fresh draw for
    each (attempt, event kind). An event that the phase does not expect ends the request as INTERNAL: the interpreter has
    a defect.
    """
    kind = event.kind
    phase = state.phase
    if kind == EventKind.CANCELLED:
        return _finish(state, Outcome.CANCELLED.value, Reason.CALLER_CANCELLED.value, now_us, u)
    if kind == EventKind.DEADLINE:
        return _finish(state, Outcome.DEADLINE_EXCEEDED.value, Reason.DEADLINE_PASSED.value, now_us, u)
    if phase == Phase.NEW and kind == EventKind.ARRIVED:
        return _arrived(state, now_us, u, view)
    if phase == Phase.RESERVING and kind == EventKind.GRANTED:
        return _granted(state, event, now_us, u, parameters, view)
    if phase == Phase.RESERVING and kind == EventKind.REFUSED:
        return _refused(state, event, now_us, u, parameters, view)
    if phase == Phase.BUDGETING and kind == EventKind.BUDGET_GRANTED:
        return _budget_granted(state, now_us, u, parameters, view)
    if phase == Phase.BUDGETING and kind == EventKind.BUDGET_DENIED:
        if event.refusal == Refusal.LEDGER_DOWN:
            return _shed(state, Outcome.LEDGER_DOWN.value, Reason.LEDGERS_DOWN.value, now_us, u, parameters, view)
        return _shed(state, Outcome.RETRY_BUDGET_SPENT.value, Reason.BUDGET_SPENT.value, now_us, u, parameters, view)
    if phase == Phase.WAITING and kind == EventKind.WOKEN:
        return _begin_round(state, Reason.WAIT_OVER.value, now_us, u, view)
    if phase == Phase.STARTING and kind == EventKind.DONE:
        return _finish(state, Outcome.OK.value, Reason.SUCCEEDED.value, now_us, u)
    if phase == Phase.STARTING and kind == EventKind.FAILED:
        return _failed(state, event, now_us, u, parameters, view)
    return _finish(state, Outcome.INTERNAL.value, Reason.NONE.value, now_us, u)
