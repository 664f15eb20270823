"""What the state machine sees and keeps: state, event, view, command. Plain tuples of ints and floats.

Everything is an int, a float, or an indexable of them, so that numba can compile the functions that use it. Regions are
indices into the view's arrays (regions sorted by name). `-1` means "no region". Instants are int64 microseconds of one
clock that the interpreter chooses.
"""

from collections.abc import Sequence
from typing import NamedTuple

from router.policy.jit import shared
from router.policy.vocabulary import Failure, Phase, Reason, Refusal

REGIONS_MAX = 62
"""Regions in one fleet: `State.tried` keeps them as bits of a signed 64-bit int."""


class Round(NamedTuple):
    """What one placement round has met so far."""

    tried: int
    """Bit set of the regions asked."""
    asked: int
    """How many those are."""
    refusals: int
    """Bit set of the refusals met (`1 << Refusal`)."""
    home_load: float
    """Home's load as the round saw it, 0 to 1."""
    eta_us: int
    """Shortest known time until a slot frees, relative to the event that told it; 0 unknown."""
    home_slots: int
    """Home's slots, as its refusal told; 0 unknown."""


class State(NamedTuple):
    """One request, between two events."""

    phase: int
    attempt: int
    """Placement rounds begun; 1 in the first."""
    region: int
    """Region being asked, or running the job."""
    failures: int
    """Runs that failed so far."""
    wake_at_us: int
    """When the next round shall begin, once the budget allows it; or when the job starts."""
    wake_reason: int
    run_us: int
    """Expected run time; 0 unknown."""
    arrived_at_us: int
    deadline_at_us: int
    round: Round


class Event(NamedTuple):
    """What happened to a request."""

    kind: int
    region: int = -1
    refusal: int = Refusal.NONE.value
    failure: int = Failure.NONE.value
    eta_us: int = 0
    run_us: int = 0
    """Expected run time of the granted variant; 0 unknown."""
    slots: int = 0
    """Slots of the region that answered."""
    busy: int = 0
    """Its busy slots."""
    waiting: int = 0
    """Requests waiting there."""
    hold_us: int = 0
    """The granted slot is held this long for a job that has not started; 0 unknown."""


class View(NamedTuple):
    """The fleet as this router sees it now, for one model; every sequence is indexed by region."""

    home: int
    ring: Sequence[int]
    """Distance band from home, 0 for home itself, 1 to 3 for the others."""
    rtt_us: Sequence[int]
    offered: Sequence[int]
    """Free slots that the region lets us use, by its last snapshot."""
    age_us: Sequence[int]
    """Age of that snapshot; -1 if there is none."""
    serves: Sequence[int]
    """1 if a live worker there serves the model."""
    load: Sequence[float]
    """busy / slots, 0 to 1; 1 where there is no slot."""
    waiting: int
    """Requests waiting at home."""
    run_us: int
    """Expected run time at home; 0 unknown."""


class Command(NamedTuple):
    """What to do next, why, and the numbers that were seen."""

    kind: int
    region: int
    at_us: int
    """When: end of the wait, start of the job, or (SHED) the instant to come back."""
    outcome: int
    reason: int
    home_load: float
    pressure: float
    share: float
    draw: float


NO_ROUND = Round(tried=0, asked=0, refusals=0, home_load=0.0, eta_us=0, home_slots=0)


def arrival(now_us: int, deadline_at_us: int) -> State:
    """State of a request that has just come in. Feed it `ARRIVED`."""
    return State(
        phase=Phase.NEW.value,
        attempt=0,
        region=-1,
        failures=0,
        wake_at_us=now_us,
        wake_reason=Reason.NONE.value,
        run_us=0,
        arrived_at_us=now_us,
        deadline_at_us=deadline_at_us,
        round=NO_ROUND,
    )


# Compiled code has no `_replace`; these are the three ways in which a state changes.


@shared
def moved(state: State, phase: int, attempt: int, region: int, new_round: Round) -> State:
    """Another phase, region or round; everything planned stays."""
    return State(
        phase, attempt, region, state.failures, state.wake_at_us, state.wake_reason, state.run_us,
        state.arrived_at_us, state.deadline_at_us, new_round,
    )  # fmt: skip


@shared
def planned(state: State, phase: int, wake_at_us: int, wake_reason: int, run_us: int) -> State:
    """Another phase, in which something is due at `wake_at_us`."""
    return State(
        phase, state.attempt, state.region, state.failures, wake_at_us, wake_reason, run_us,
        state.arrived_at_us, state.deadline_at_us, state.round,
    )  # fmt: skip


@shared
def failed_once_more(state: State) -> State:
    """One more failed run; what the round met belongs to the past."""
    forgotten = Round(0, 0, 0, state.round.home_load, 0, 0)
    return State(
        state.phase, state.attempt, state.region, state.failures + 1, state.wake_at_us, state.wake_reason, state.run_us,
        state.arrived_at_us, state.deadline_at_us, forgotten,
    )  # fmt: skip
