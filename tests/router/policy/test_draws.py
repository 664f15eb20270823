"""Counter-based draws: the same for the same question, and nothing in common between different ones."""

from collections import Counter
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.draws import draw, mix32, request_key

from .worlds import PROPERTY

SEED = 3_000_000
key_bits = st.integers(0, 2**62 - 1)
CHI_SQUARE_99_MAX = 148.3
"""Exceeded by one sample in a thousand (chi-square, 99 degrees of freedom)."""


@PROPERTY
@given(seed=key_bits, key=key_bits, attempt=st.integers(0, 100), purpose=st.integers(1, 10))
def test_draws_are_in_range_and_repeatable(seed: int, key: int, attempt: int, purpose: int) -> None:
    first = draw(seed, key, attempt, purpose)
    assert 0.0 <= first < 1.0
    assert draw(seed, key, attempt, purpose) == first
    assert first * 2**53 == int(first * 2**53)


def test_known_answers() -> None:
    """Another hash would be as good, but every recorded decision and every simulation would change: do not, by accident."""
    assert [mix32(value) for value in (0, 1, 2, 0xFFFFFFFF)] == KNOWN_MIX
    assert [draw(*question) for question in KNOWN_QUESTIONS] == KNOWN_DRAWS
    assert [request_key(name) for name in ("", "request-1", "anfrage-ü")] == KNOWN_KEYS


def test_every_argument_matters() -> None:
    answers = [draw(*question) for question in product((1, 2, 1 + 2**40), (5, 6, 5 + 2**40), (1, 2, 3), range(1, 11))]
    assert len(set(answers)) == len(answers)


def test_request_keys_fit_and_differ() -> None:
    keys = [request_key(f"request-{number}") for number in range(50_000)]
    assert all(0 <= key < 2**62 for key in keys)
    assert len(set(keys)) == len(keys)


def chi_square(draws: list[float]) -> float:
    met = Counter(int(value * 100) for value in draws)
    expected = len(draws) / 100
    return sum((met[cell] - expected) ** 2 / expected for cell in range(100))


@pytest.mark.parametrize("attempt", [1, 2, 6])
@pytest.mark.parametrize("purpose", [2, 3, 8])
def test_draws_over_requests_are_uniform(attempt: int, purpose: int) -> None:
    """Keys of the simulator are counters, those of the router are hashes: both must give even draws."""
    count = 20_000
    assert chi_square([draw(SEED, key, attempt, purpose) for key in range(count)]) < CHI_SQUARE_99_MAX
    rng = Random(SEED)
    assert chi_square([draw(SEED, rng.getrandbits(62), attempt, purpose) for _ in range(count)]) < CHI_SQUARE_99_MAX


def test_draws_over_seeds_are_uniform() -> None:
    assert chi_square([draw(seed, 17, 1, 2) for seed in range(20_000)]) < CHI_SQUARE_99_MAX


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 2), (1, 3)), ((1, 3), (2, 3)), ((2, 3), (3, 3)), ((1, 4), (2, 2))],
    ids=["purposes", "attempts 1 and 2", "attempts 2 and 3", "both"],
)
def test_draws_of_one_request_are_independent(one: tuple[int, int], other: tuple[int, int]) -> None:
    """A request that was unlucky in one round must not be unlucky in the next: 10 x 10 cells, evenly filled."""
    count = 20_000
    pairs = [(draw(SEED, key, *one), draw(SEED, key, *other)) for key in range(count)]
    met = Counter((int(first * 10), int(second * 10)) for first, second in pairs)
    expected = count / 100
    statistic = sum((met[cell] - expected) ** 2 / expected for cell in product(range(10), range(10)))
    assert statistic < CHI_SQUARE_99_MAX


KNOWN_QUESTIONS = ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (7, 2**62 - 1, 3, 5))
KNOWN_MIX = [0, 1753845952, 3507691905, 1734902346]
KNOWN_DRAWS = [
    0.3570604950845455,
    0.5513136501703653,
    0.43230594625512175,
    0.27573810924852304,
    0.40662400652077035,
    0.5539770196392356,
]
KNOWN_KEYS = [4101707308206065413, 467320560291369588, 3894917254348792798]
