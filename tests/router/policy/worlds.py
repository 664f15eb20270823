"""Random fleets, parameters, states and events for the tests of the policy.

Everything is drawn from a `random.Random`, so that the same builders serve a fast seeded loop and hypothesis (`st.randoms`),
which shrinks them. Values sit at their limits more often than chance would put them there: that is where policies break.
"""

from collections.abc import Sequence
from random import Random

from hypothesis import Phase as HypothesisPhase
from hypothesis import settings

from router.policy.parameters import Parameters, parameters
from router.policy.state import NO_ROUND, REGIONS_MAX, Event, State, View, arrival
from router.policy.vocabulary import EventKind, Failure, Phase, Reason, Refusal

PROPERTY = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    phases=(HypothesisPhase.explicit, HypothesisPhase.generate, HypothesisPhase.shrink),
)
"""The same examples every run: a red test is a change of the code, not luck."""

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
YEARS_US = 3_650 * DAY_US
"""Ten years: nobody's deadline, but a gateway may send it."""

REFUSALS = tuple(refusal for refusal in Refusal if refusal is not Refusal.NONE)

EXPECTED = {
    Phase.NEW: (EventKind.ARRIVED,),
    Phase.RESERVING: (EventKind.GRANTED, EventKind.REFUSED),
    Phase.BUDGETING: (EventKind.BUDGET_GRANTED, EventKind.BUDGET_DENIED),
    Phase.WAITING: (EventKind.WOKEN,),
    Phase.STARTING: (EventKind.DONE, EventKind.FAILED),
    Phase.ENDED: (),
}
"""Events that a phase may meet, besides CANCELLED and DEADLINE."""


def some_unit(rng: Random) -> float:
    """A number in [0, 1]; the ends are likely."""
    return rng.choice((0.0, 1.0, 0.5, rng.random(), rng.random(), rng.random()))


def some_draw(rng: Random) -> float:
    """A draw in [0, 1); zero and the largest double below one are likely."""
    return rng.choice((0.0, 1.0 - 2.0**-53, rng.random(), rng.random(), rng.random()))


def some_duration_us(rng: Random, most_us: int) -> int:
    """A duration from 0 to `most_us`: any order of magnitude is as likely as another."""
    return rng.choice((0, most_us, min(most_us, rng.randrange(1, 1 << rng.randrange(1, most_us.bit_length() + 1)))))


def some_parameters(rng: Random) -> Parameters:
    """Valid parameters, anywhere in their ranges."""
    base_us, cap_us = sorted((some_duration_us(rng, DAY_US), some_duration_us(rng, DAY_US)))
    return parameters({
        "attempts_max": rng.choice((1, 3, 6, rng.randint(1, 100), rng.randint(1, 100))),
        "regions_per_attempt_max": rng.choice((1, 2, 3, rng.randint(1, REGIONS_MAX))),
        "ring_unlock": sorted(rng.choice((0.0, 1.0, 1.01, rng.random())) for _ in range(3)),
        "waiting_max": rng.choice((0, 1, 1000, rng.randint(1000, 1_000_000))),
        "reserve_share": some_unit(rng),
        "snapshot_age_max_s": some_duration_us(rng, DAY_US) / SECOND_US,
        "backoff": {"base_s": base_us / SECOND_US, "cap_s": cap_us / SECOND_US},
        "start_delay": {
            "share_max": some_unit(rng),
            "spread_max_s": some_duration_us(rng, 60 * SECOND_US) / SECOND_US,
            "pressure_from": some_unit(rng),
        },
        "retry_budget": {"share": some_unit(rng), "floor_per_s": rng.random() * 100},
    })


def some_view(rng: Random, given: Parameters, most_regions: int = REGIONS_MAX) -> View:
    """A fleet of 1 to `most_regions` regions; snapshots may be missing, stale, exactly at the limit, or fresh."""
    count = rng.choice((1, 2, 3, rng.randint(1, most_regions), rng.randint(1, most_regions)))
    count = min(count, most_regions)
    home = rng.randrange(count)
    limit = given.snapshot_age_max_us
    regions = range(count)
    return View(
        home=home,
        ring=[0 if region == home else rng.randint(1, 3) for region in regions],
        rtt_us=[0 if region == home else rng.randrange(400_000) for region in regions],
        offered=[rng.choice((0, 1, rng.randrange(1000))) for _ in regions],
        age_us=[rng.choice((-1, 0, limit // 2, limit, limit + 1)) for _ in regions],
        serves=[rng.choice((0, 1, 1, 1)) for _ in regions],
        load=[some_unit(rng) for _ in regions],
        waiting=rng.choice((0, 0, 1, 100, given.waiting_max, rng.randrange(100_000))),
        run_us=some_run_us(rng),
    )


def some_run_us(rng: Random) -> int:
    """An expected run time: unknown, a microsecond, seconds, minutes."""
    return rng.choice((0, 1, 5 * SECOND_US, rng.randrange(600 * SECOND_US)))


def some_answer(rng: Random, kind: int, region: int) -> Event:
    """An event of this kind from `region`, with numbers of every sort."""
    slots = rng.choice((0, 1, 10, rng.randrange(1000)))
    return Event(
        kind=kind,
        region=region,
        refusal=int(rng.choice((Refusal.FULL, *REFUSALS))) if kind == EventKind.REFUSED else Refusal.NONE.value,
        failure=rng.randint(0, 3) if kind == EventKind.FAILED else Failure.NONE.value,
        eta_us=rng.choice((0, 0, some_duration_us(rng, 3_600 * SECOND_US), rng.randrange(10 * SECOND_US))),
        run_us=some_run_us(rng),
        slots=slots,
        busy=rng.choice((0, slots, rng.randint(0, slots))),
        waiting=rng.choice((0, 1, rng.randrange(10_000))),
    )


def some_bits(rng: Random, count: int) -> int:
    """Any subset of `count` regions, as bits."""
    return rng.choice((0, (1 << count) - 1, rng.getrandbits(count)))


def some_situation(rng: Random, view: View, given: Parameters) -> tuple[State, Event, int]:
    """Any state, with an event that it mostly, but not always, expects, and the instant of the event."""
    count = len(view.ring)
    phase = Phase(rng.randrange(len(Phase)))
    region = rng.randrange(count)
    now_us = rng.choice((0, 1_800_000_000 * SECOND_US, rng.randrange(YEARS_US)))
    left_us = rng.choice((0, 1, view.run_us, YEARS_US, -SECOND_US, rng.randrange(1200 * SECOND_US)))
    state = arrival(now_us - rng.randrange(1000), now_us + left_us)._replace(
        phase=phase.value,
        attempt=rng.choice((0, 1, given.attempts_max, rng.randint(0, given.attempts_max))),
        region=rng.choice((-1, region)),
        failures=rng.randrange(4),
        wake_at_us=now_us + rng.choice((-1, 0, 1, some_duration_us(rng, DAY_US))),
        wake_reason=rng.randrange(len(Reason)),
        run_us=some_run_us(rng),
        round=NO_ROUND._replace(
            tried=some_bits(rng, count) | (1 << view.home),
            asked=rng.choice((1, given.regions_per_attempt_max, rng.randint(0, count))),
            refusals=some_bits(rng, 8),
            home_load=some_unit(rng),
            eta_us=rng.choice((0, some_duration_us(rng, 3_600 * SECOND_US))),
        ),
    )
    kinds: Sequence[int] = EXPECTED[phase]
    if not kinds or rng.random() < 0.1:
        kinds = tuple(EventKind)
    return state, some_answer(rng, int(rng.choice(kinds)), region), now_us
