"""Marginal execution delay: the ramp by hand, the share and the spread by counting."""

from collections import Counter
from fractions import Fraction
from random import Random

import pytest

from router.policy.draws import draw, request_key
from router.policy.parameters import Parameters, parameters
from router.policy.start_delay import delay_us, pressure_of, ramp_of, share_of
from router.policy.vocabulary import EventKind

from .worlds import SECOND_US, some_draw, some_parameters, some_unit

SEED = 6_000_000
RULES = parameters()
ALMOST_ONE = 1.0 - 2.0**-53
PLENTY_US = 600 * SECOND_US


def rules_with(**delay: float) -> Parameters:
    return parameters({"start_delay": delay})


@pytest.mark.parametrize(
    ("busy", "waiting", "slots", "pressure"),
    [(0, 0, 10, 0.0), (7, 0, 10, 0.7), (7, 2, 10, 0.9), (10, 0, 10, 1.0), (10, 90, 10, 1.0), (0, 0, 0, 1.0), (3, 0, -1, 1.0)],
)
def test_pressure_by_hand(busy: int, waiting: int, slots: int, pressure: float) -> None:
    assert pressure_of(busy, waiting, slots) == pressure


@pytest.mark.parametrize(
    ("pressure_from", "pressure", "ramp"),
    [
        (0.5, 0.25, 0.0), (0.5, 0.5, 0.0), (0.5, 0.75, 0.5), (0.5, 1.0, 1.0),
        (0.0, 0.0, 0.0), (0.0, 0.25, 0.25), (0.0, 1.0, 1.0),
        (1.0, 0.999, 0.0), (1.0, 1.0, 1.0),
    ],
)  # fmt: skip
def test_ramp_by_hand(pressure_from: float, pressure: float, ramp: float) -> None:
    assert ramp_of(pressure, rules_with(pressure_from=pressure_from)) == ramp


@pytest.mark.parametrize(
    ("u", "slack_us", "expected_us"),
    [
        (0.0, PLENTY_US, 0),
        (0.0625, PLENTY_US, 500_000),  # pressure 0.75: ramp 0.5, share 0.125, spread 1 s; u is half of the share
        (0.12, PLENTY_US, 960_000),
        (0.125, PLENTY_US, 0),  # just not drawn
        (0.9, PLENTY_US, 0),
        (0.0625, 400_000, 400_000),  # the deadline leaves less
        (0.0625, 1, 1),
        (0.0625, 0, 0),
        (0.0625, -5, 0),
    ],
)
def test_delays_by_hand(u: float, slack_us: int, expected_us: int) -> None:
    rules = rules_with(share_max=0.25, spread_max_s=2.0, pressure_from=0.5)
    assert delay_us(0.75, u, slack_us, rules) == expected_us


def slow_delay_us(pressure: float, u: float, slack_us: int, rules: Parameters) -> Fraction:
    """The docstring, in exact arithmetic."""
    start = Fraction(rules.start_delay_pressure_from)
    ramp = Fraction(int(pressure >= 1)) if start == 1 else min(max((Fraction(pressure) - start) / (1 - start), 0), 1)
    share, spread = Fraction(rules.start_delay_share_max) * ramp, rules.start_delay_spread_max_us * ramp
    if Fraction(u) >= share or slack_us <= 0:
        return Fraction(0)
    return min(Fraction(slack_us), Fraction(u) / share * spread)


def test_delay_is_the_formula() -> None:
    for seed in range(SEED, SEED + 5_000):
        rng = Random(seed)
        rules, pressure, u = some_parameters(rng), some_unit(rng), some_draw(rng)
        slack_us = rng.choice((-1, 0, 1, rng.randrange(PLENTY_US)))
        exact = slow_delay_us(pressure, u, slack_us, rules)
        # Doubles carry 53 bits, a day has 37 bits of microseconds: off by less than one.
        assert abs(delay_us(pressure, u, slack_us, rules) - exact) <= 1, f"seed {seed}"


@pytest.mark.parametrize("u", [0.0, 0.5, ALMOST_ONE])
def test_limits(u: float) -> None:
    assert delay_us(1.0, u, PLENTY_US, rules_with(share_max=0.0)) == 0
    assert delay_us(1.0, u, PLENTY_US, rules_with(spread_max_s=0.0)) == 0
    assert delay_us(1.0, u, PLENTY_US, rules_with(share_max=1.0)) == int(u * 2 * SECOND_US)
    assert delay_us(1.0, u, PLENTY_US, rules_with(share_max=1.0, pressure_from=1.0)) == int(u * 2 * SECOND_US)
    assert delay_us(RULES.start_delay_pressure_from, u, PLENTY_US, rules_with(share_max=1.0)) == 0
    assert delay_us(1.0, u, PLENTY_US, rules_with(share_max=5e-324)) == 0


CHI_SQUARE_9_MAX = 27.9
"""Exceeded by one sample in a thousand (chi-square, 9 degrees of freedom)."""


@pytest.mark.parametrize("pressure", [0.75, 0.85, 1.0])
def test_the_share_is_delayed_and_spread_evenly(pressure: float) -> None:
    count, cells = 40_000, 10
    share = 0.25 * (pressure - 0.7) / (1 - 0.7)
    spread = 2 * SECOND_US * (pressure - 0.7) / (1 - 0.7)
    assert share_of(pressure, RULES) == pytest.approx(share)
    keys = (request_key(f"request-{number}") for number in range(count))
    delays = [delay_us(pressure, draw(SEED, key, 1, EventKind.GRANTED), PLENTY_US, RULES) for key in keys]
    delayed = [delay for delay in delays if delay > 0]
    # Binomial: four standard deviations are one chance in 16,000.
    assert abs(len(delayed) / count - share) < 4 * (share * (1 - share) / count) ** 0.5
    assert max(delayed) < spread
    met = Counter(int(delay * cells / spread) for delay in delayed)
    expected = len(delayed) / cells
    assert sum((met[cell] - expected) ** 2 / expected for cell in range(cells)) < CHI_SQUARE_9_MAX
