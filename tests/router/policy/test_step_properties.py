"""Laws of a request's life, whatever the world does: stale views, lost races, dying workers, late answers, odd parameters."""

from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from router.policy.parameters import Parameters
from router.policy.state import Event, Round, State, View
from router.policy.step import step
from router.policy.vocabulary import CommandKind, EventKind, Outcome, Phase, Reason

from .lives import LAST, Act, acts_bound, any_life
from .worlds import EXPECTED, PROPERTY, some_parameters, some_situation, some_view

SEED = 7_000_000
LIVES = 6_000
"""Refusals of a home that cannot serve at all: it counts as fully loaded, whatever its slots say."""


def rounds(acts: list[Act]) -> Iterator[list[Act]]:
    """The asks of each placement round: acts that ended in RESERVE."""
    asks = [act for act in acts if act.command.kind == CommandKind.RESERVE]
    for attempt in sorted({act.after.attempt for act in asks}):
        yield [act for act in asks if act.after.attempt == attempt]


def expected_run_us(act: Act) -> int:
    """Run time that the deadline must leave room for."""
    if act.event.kind == EventKind.GRANTED:
        return act.event.run_us or act.view.run_us
    if act.event.kind == EventKind.FAILED:
        return act.before.run_us
    return max(act.view.run_us, act.before.run_us)


def home_load_told(_refusal: Event) -> float:
    """Home's load, from its refusal: for this request there is no slot."""
    return 1.0


def may_be_asked(region: int, load: float, rules: Parameters, view: View) -> bool:
    """Open ring, fresh snapshot, serves, offers; and it is not home."""
    if region == view.home or load < rules.ring_unlock[view.ring[region] - 1]:
        return False
    fresh = 0 <= view.age_us[region] <= rules.snapshot_age_max_us
    return fresh and view.serves[region] == 1 and view.offered[region] > 0


def home_is_asked_first_in_every_round(acts: list[Act], rules: Parameters) -> None:
    for asks in rounds(acts):
        assert asks[0].command.region == asks[0].view.home
        assert all(ask.command.region != ask.view.home for ask in asks[1:])


def a_round_asks_few_regions_and_none_twice(acts: list[Act], rules: Parameters) -> None:
    for asks in rounds(acts):
        regions = [ask.command.region for ask in asks]
        assert len(regions) == len(set(regions)) <= rules.regions_per_attempt_max


def rounds_are_bounded_and_numbered(acts: list[Act], rules: Parameters) -> None:
    attempts = [asks[0].after.attempt for asks in rounds(acts)]
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) <= rules.attempts_max


def only_open_fresh_serving_offering_regions_are_asked_nearest_first(acts: list[Act], rules: Parameters) -> None:
    for asks in rounds(acts):
        if len(asks) == 1:
            continue
        load = home_load_told(asks[1].event)
        for number, ask in enumerate(asks[1:], start=1):
            view, chosen = ask.view, ask.command.region
            assert ask.command.home_load == load
            assert may_be_asked(chosen, load, rules, view)
            before = {earlier.command.region for earlier in asks[:number]}
            for region in range(len(view.ring)):
                if (view.ring[region], view.rtt_us[region], region) < (view.ring[chosen], view.rtt_us[chosen], chosen):
                    assert region in before or not may_be_asked(region, load, rules, view)


def a_round_ends_refused_only_when_nobody_is_left_to_ask(acts: list[Act], rules: Parameters) -> None:
    for act in acts:
        if act.event.kind != EventKind.REFUSED or act.command.kind == CommandKind.RESERVE:
            continue
        seen = act.after.round
        left = [region for region in range(len(act.view.ring)) if not (seen.tried >> region) & 1]
        full = seen.asked >= rules.regions_per_attempt_max
        assert full or not any(may_be_asked(region, seen.home_load, rules, act.view) for region in left)


def instants_are_never_in_the_past(acts: list[Act], rules: Parameters) -> None:
    assert all(act.command.at_us >= act.now_us for act in acts)


def waits_end_while_a_run_still_fits_before_the_deadline(acts: list[Act], rules: Parameters) -> None:
    for act in acts:
        if act.command.kind == CommandKind.WITHDRAW_BUDGET and act.after.wake_at_us > act.now_us:
            assert act.after.wake_at_us + expected_run_us(act) <= act.before.deadline_at_us


def a_start_delay_never_costs_the_deadline(acts: list[Act], rules: Parameters) -> None:
    for act in acts:
        if act.command.kind == CommandKind.DISPATCH and act.command.at_us > act.now_us:
            end_us = act.command.at_us + expected_run_us(act) + act.view.rtt_us[act.command.region]
            assert end_us <= act.before.deadline_at_us


def no_run_starts_that_cannot_end_before_the_deadline(acts: list[Act], rules: Parameters) -> None:
    for act in acts:
        if act.command.kind == CommandKind.DISPATCH:
            assert act.command.at_us + expected_run_us(act) <= act.before.deadline_at_us


def every_further_attempt_took_one_token(acts: list[Act], rules: Parameters) -> None:
    tokens = 0
    for act in acts:
        if act.event.kind == EventKind.BUDGET_GRANTED:
            assert act.before.phase == Phase.BUDGETING
            tokens += 1
        if act.command.kind == CommandKind.WAIT:
            assert act.event.kind == EventKind.BUDGET_GRANTED
        begins = act.command.kind == CommandKind.RESERVE and act.after.attempt > act.before.attempt
        if begins:
            assert act.after.attempt == tokens + 1


def a_life_ends_once_and_within_its_bound(acts: list[Act], rules: Parameters) -> None:
    assert len(acts) <= acts_bound(rules)
    assert [act.command.kind in LAST for act in acts] == [False] * (len(acts) - 1) + [True]
    assert acts[-1].after.phase == Phase.ENDED


def words_are_from_the_vocabulary(acts: list[Act], rules: Parameters) -> None:
    for act in acts:
        last = act.command.kind in LAST
        assert (Outcome(act.command.outcome) is Outcome.NONE) != last
        # No life that a legal world can produce runs into a defect.
        assert Reason(act.command.reason) is not Reason.NONE
        assert act.command.outcome != Outcome.INTERNAL
        assert act.command.kind != CommandKind.FINISH or act.command.outcome in {
            Outcome.OK, Outcome.CANCELLED, Outcome.DEADLINE_EXCEEDED, Outcome.INVALID
        }  # fmt: skip


def start_delay_follows_its_formula(acts: list[Act], rules: Parameters) -> None:
    for act in acts:
        command = act.command
        if command.kind != CommandKind.DISPATCH:
            continue
        slots = act.event.slots
        others = max(act.event.busy - 1, 0) + act.event.waiting  # the job's own slot does not count
        pressure = 1.0 if slots == 0 else min(1.0, others / slots)
        start = rules.start_delay_pressure_from
        ramp = float(pressure >= 1.0) if start == 1.0 else min(1.0, max(0.0, (pressure - start) / (1.0 - start)))
        assert command.pressure == pressure
        assert command.share == rules.start_delay_share_max * ramp
        delay_us = command.at_us - act.now_us
        assert 0 <= delay_us <= rules.start_delay_spread_max_us * ramp
        if delay_us:
            assert pressure > start or pressure == start == 1.0
            assert command.reason == Reason.START_DELAYED
            assert command.draw < command.share
        else:
            assert command.reason == (Reason.START_NOT_DRAWN if command.share > 0 else Reason.START_NOW)


@settings(PROPERTY, max_examples=100)
@given(rng=st.randoms(use_true_random=False))
def test_cancel_and_deadline_end_any_phase(rng: Random) -> None:
    rules = some_parameters(rng)
    view = some_view(rng, rules, most_regions=4)
    state, _, now_us = some_situation(rng, view, rules)
    for kind, outcome, reason in (
        (EventKind.CANCELLED, Outcome.CANCELLED, Reason.CALLER_CANCELLED),
        (EventKind.DEADLINE, Outcome.DEADLINE_EXCEEDED, Reason.DEADLINE_PASSED),
    ):
        after, command = step(state, Event(kind.value), now_us, 0.5, rules, view)
        assert after.phase == Phase.ENDED
        assert (command.kind, command.outcome, command.reason) == (CommandKind.FINISH, outcome, reason)


@settings(PROPERTY, max_examples=100)
@given(rng=st.randoms(use_true_random=False))
def test_an_event_out_of_turn_is_a_defect(rng: Random) -> None:
    rules = some_parameters(rng)
    view = some_view(rng, rules, most_regions=4)
    state, event, now_us = some_situation(rng, view, rules)
    for kind in EventKind:
        if kind in EXPECTED[Phase(state.phase)] or kind in (EventKind.CANCELLED, EventKind.DEADLINE):
            continue
        after, command = step(state, event._replace(kind=kind.value), now_us, 0.5, rules, view)
        assert after.phase == Phase.ENDED
        assert (command.kind, command.outcome, command.reason) == (CommandKind.FINISH, Outcome.INTERNAL, Reason.NONE)


def shuffled_bits(bits: int, place: list[int]) -> int:
    return sum(1 << new for old, new in enumerate(place) if (bits >> old) & 1)


def shuffled_view(view: View, place: list[int]) -> View:
    """The same fleet, listed in another order: region `r` stands at `place[r]`."""
    back = sorted(range(len(place)), key=place.__getitem__)
    names = ("ring", "rtt_us", "offered", "age_us", "serves", "load")
    return view._replace(home=place[view.home], **{name: [getattr(view, name)[old] for old in back] for name in names})


def shuffled_state(state: State, place: list[int]) -> State:
    met: Round = state.round._replace(tried=shuffled_bits(state.round.tried, place))
    return state._replace(region=place[state.region] if state.region >= 0 else -1, round=met)


def the_order_of_the_regions_does_not_matter(acts: list[Act], rules: Parameters) -> None:
    rng = Random(len(acts))
    for act in acts:
        count = len(act.view.ring)
        distances = list(zip(act.view.ring, act.view.rtt_us, strict=True))
        if len(set(distances)) < count:  # equally near regions are taken by index, which is an order
            return
        place = list(range(count))
        rng.shuffle(place)
        event = act.event._replace(region=place[act.event.region] if act.event.region >= 0 else -1)
        after, command = step(
            shuffled_state(act.before, place), event, act.now_us, act.u, rules, shuffled_view(act.view, place)
        )
        assert after == shuffled_state(act.after, place)
        assert command == act.command._replace(region=place[act.command.region] if act.command.region >= 0 else -1)


LAWS = (
    home_is_asked_first_in_every_round,
    a_round_asks_few_regions_and_none_twice,
    rounds_are_bounded_and_numbered,
    only_open_fresh_serving_offering_regions_are_asked_nearest_first,
    a_round_ends_refused_only_when_nobody_is_left_to_ask,
    instants_are_never_in_the_past,
    waits_end_while_a_run_still_fits_before_the_deadline,
    a_start_delay_never_costs_the_deadline,
    no_run_starts_that_cannot_end_before_the_deadline,
    every_further_attempt_took_one_token,
    a_life_ends_once_and_within_its_bound,
    words_are_from_the_vocabulary,
    start_delay_follows_its_formula,
    the_order_of_the_regions_does_not_matter,
)
Law = Callable[[list[Act], Parameters], None]


@pytest.fixture(scope="module")
def seeded_lives() -> list[tuple[int, list[Act], Parameters]]:
    """Many lives, each with the seed that gives it again."""
    lives = []
    for seed in range(SEED, SEED + LIVES):
        rng = Random(seed)
        rules = some_parameters(rng)
        lives.append((seed, any_life(rng, rules), rules))
    return lives


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_holds_in_every_seeded_life(law: Law, seeded_lives: list[tuple[int, list[Act], Parameters]]) -> None:
    for seed, acts, rules in seeded_lives:
        try:
            law(acts, rules)
        except AssertionError as error:
            trace = "\n".join(f"{act.event}\n  at {act.now_us} u={act.u}\n  -> {act.command}" for act in acts)
            raise AssertionError(f"seed {seed}\n{rules}\ndeadline {acts[0].before.deadline_at_us}\n{trace}") from error


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@settings(PROPERTY, max_examples=60)
@given(rng=st.randoms(use_true_random=False))
def test_law_holds_in_a_life_that_shrinks(law: Law, rng: Random) -> None:
    rules = some_parameters(rng)
    acts = any_life(rng, rules, regions_most=3)
    note(f"{rules}")
    note("\n".join(f"{EventKind(act.event.kind).name} {act.event} at {act.now_us} u={act.u}\n  {act.command}" for act in acts))
    law(acts, rules)


def test_the_seeded_lives_meet_every_decision(seeded_lives: list[tuple[int, list[Act], Parameters]]) -> None:
    """The laws are worth what their lives meet: every outcome and reason of the policy, and long lives too."""
    acts = [act for _, life, _ in seeded_lives for act in life]
    # DUPLICATE and DRAINING are said before a request has a life, INTERNAL never.
    expected = set(Outcome) - {Outcome.DUPLICATE, Outcome.DRAINING, Outcome.INTERNAL}
    assert {Outcome(act.command.outcome) for act in acts} == expected
    assert {Reason(act.command.reason) for act in acts} == set(Reason) - {Reason.NONE}
    assert max(act.after.attempt for act in acts) >= 20
