"""Backoff against its formula in unbounded integers, and the uniformity of what requests really wait."""

from collections import Counter
from fractions import Fraction
from random import Random

import pytest

from router.policy.backoff import wait_us, window_us, work_off_us
from router.policy.draws import draw, request_key
from router.policy.parameters import parameters
from router.policy.vocabulary import EventKind

from .worlds import SECOND_US, some_draw, some_duration_us, some_parameters

SEED = 5_000_000
RULES = parameters()
ALMOST_ONE = 1.0 - 2.0**-53


def test_window_is_the_formula_of_default_toml() -> None:
    for seed in range(SEED, SEED + 3_000):
        rng = Random(seed)
        rules, attempt = some_parameters(rng), rng.randint(1, 100)
        formula = min(rules.backoff_cap_us, rules.backoff_base_us * 2 ** (attempt - 1))
        assert window_us(attempt, rules) == formula, f"seed {seed}, attempt {attempt}, {rules}"


def test_windows_of_the_defaults() -> None:
    windows = [window_us(attempt, RULES) for attempt in range(8)]
    assert windows == [250_000, 250_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000, 8_000_000]


def test_the_smallest_base_reaches_the_largest_cap() -> None:
    """A microsecond doubled 99 times is beyond a day: 2^37 us are already 38 hours."""
    rules = parameters({"backoff": {"base_s": 1e-6, "cap_s": 86_400}})
    assert window_us(38, rules) == 86_400 * SECOND_US
    assert window_us(100, rules) == 86_400 * SECOND_US


def test_work_off_time_is_the_formula() -> None:
    for seed in range(SEED, SEED + 3_000):
        rng = Random(seed)
        rules = some_parameters(rng)
        run_us, waiting, slots = some_duration_us(rng, 600 * SECOND_US), rng.randrange(10_000), rng.randrange(1, 1_000)
        exact = min(Fraction(rules.backoff_cap_us), Fraction(run_us * waiting, slots))
        assert abs(work_off_us(run_us, waiting, slots, rules) - exact) <= 1, f"seed {seed}"


@pytest.mark.parametrize(
    ("run_s", "waiting", "slots", "expected_s"),
    [(5, 16, 10, 8.0), (5, 8, 10, 4.0), (5, 1, 10, 0.5), (60, 1000, 10, 8.0), (5, 0, 10, 0.0), (0, 16, 10, 0.0), (5, 16, 0, 0.0)],
)
def test_work_off_times_by_hand(run_s: int, waiting: int, slots: int, expected_s: float) -> None:
    assert work_off_us(run_s * SECOND_US, waiting, slots, RULES) == expected_s * SECOND_US


@pytest.mark.parametrize(
    ("attempt", "eta_us", "work_off", "u", "expected_us"),
    [
        (1, 0, 0, 0.0, 0),
        (1, 0, 0, 0.5, 125_000),
        (1, 0, 0, ALMOST_ONE, 249_999),
        (4, 0, 0, 0.25, 500_000),
        (4, -1, 0, 0.25, 500_000),  # an eta below zero is no eta
        (1, 0, 4_000_000, 0.5, 125_000),  # without an eta nothing is known that a longer window could use
        (1, 3_000_000, 0, 0.0, 3_000_000),
        (1, 3_000_000, 0, 0.5, 3_125_000),
        (1, 3_000_000, 4_000_000, 0.5, 5_000_000),
        (6, 3_000_000, 4_000_000, 0.5, 7_000_000),
    ],
)
def test_waits_by_hand(attempt: int, eta_us: int, work_off: int, u: float, expected_us: int) -> None:
    assert wait_us(attempt, eta_us, work_off, u, RULES) == expected_us


def test_a_wait_lies_between_the_eta_and_the_eta_plus_its_window() -> None:
    for seed in range(SEED, SEED + 3_000):
        rng = Random(seed)
        rules, attempt = some_parameters(rng), rng.randint(1, 100)
        eta_us, work_off = some_duration_us(rng, 3_600 * SECOND_US), some_duration_us(rng, rules.backoff_cap_us or 1)
        wait = wait_us(attempt, eta_us, work_off, some_draw(rng), rules)
        window = max(window_us(attempt, rules), work_off if eta_us else 0)
        assert eta_us <= wait <= eta_us + window, f"seed {seed}"
        assert wait < eta_us + window or window == 0, f"seed {seed}"


def test_nothing_waits_with_a_cap_of_zero() -> None:
    rules = parameters({"backoff": {"base_s": 0, "cap_s": 0}})
    assert [wait_us(attempt, 0, 0, ALMOST_ONE, rules) for attempt in range(1, 101)] == [0] * 100


CHI_SQUARE_19_MAX = 43.8
"""Exceeded by one sample in a thousand (chi-square, 19 degrees of freedom)."""


@pytest.mark.parametrize("attempt", [1, 3, 6])
@pytest.mark.parametrize("eta_us", [0, 2 * SECOND_US])
def test_waits_of_many_requests_are_uniform_over_the_window(attempt: int, eta_us: int) -> None:
    """Full jitter: no part of the window is fuller than another. Draws as the interpreters make them, request by request."""
    count, cells = 20_000, 20
    window = window_us(attempt, RULES)
    keys = (request_key(f"request-{number}") for number in range(count))
    waits = [wait_us(attempt, eta_us, 0, draw(SEED, key, attempt, EventKind.REFUSED), RULES) - eta_us for key in keys]
    met = Counter(wait * cells // window for wait in waits)
    expected = count / cells
    assert sum((met[cell] - expected) ** 2 / expected for cell in range(cells)) < CHI_SQUARE_19_MAX
    # The mean of n uniform draws has the standard deviation window / sqrt(12 n); four of them are one chance in 16,000.
    assert abs(sum(waits) / count - window / 2) < 4 * window / (12 * count) ** 0.5
