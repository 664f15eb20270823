"""Placement against a slow oracle: filter, sort by (ring, round-trip time, index), cut."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.parameters import Parameters, parameters
from router.policy.placement import another_serves, is_candidate, next_region, ring_is_open
from router.policy.state import REGIONS_MAX, View

from .worlds import PROPERTY, some_bits, some_parameters, some_unit, some_view

SEED = 4_000_000
RULES = parameters()


def nearest_first(tried: int, load: float, rules: Parameters, view: View) -> list[int]:
    """Every region that may be asked, in the order in which it should be."""
    rows = zip(view.ring, view.rtt_us, range(len(view.ring)), view.offered, view.age_us, view.serves, strict=True)
    return [
        region
        for ring, _, region, offered, age_us, serves in sorted(rows)
        if region != view.home
        and f"{tried:0{REGIONS_MAX}b}"[::-1][region] == "0"
        and load >= {1: rules.ring_unlock[0], 2: rules.ring_unlock[1], 3: rules.ring_unlock[2]}[ring]
        and age_us in range(rules.snapshot_age_max_us + 1)
        and serves == 1
        and offered >= 1
    ]


def check_against_oracle(rng: Random, most_regions: int) -> None:
    rules = some_parameters(rng)
    view = some_view(rng, rules, most_regions)
    load, tried = some_unit(rng), some_bits(rng, len(view.ring))
    order = nearest_first(tried, load, rules, view)
    candidates = {region for region in range(len(view.ring)) if is_candidate(region, tried, load, rules, view)}
    assert candidates == set(order)
    # Home has been asked; the rest of the round takes the oracle's list from its head.
    taken = []
    asked = 1
    while (region := next_region(tried, asked, load, rules, view)) >= 0:
        taken.append(region)
        tried, asked = tried | (1 << region), asked + 1
    assert taken == order[: rules.regions_per_attempt_max - 1]


def test_a_round_takes_regions_in_the_oracles_order() -> None:
    for seed in range(SEED, SEED + 2_000):
        try:
            check_against_oracle(Random(seed), REGIONS_MAX)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


@PROPERTY
@given(rng=st.randoms(use_true_random=False))
def test_a_round_takes_regions_in_the_oracles_order_shrunk(rng: Random) -> None:
    check_against_oracle(rng, 5)


@pytest.mark.parametrize(
    ("load", "open_rings"),
    [(0.0, []), (0.699, []), (0.7, [1]), (0.849, [1]), (0.85, [1, 2]), (0.95, [1, 2, 3]), (1.0, [1, 2, 3])],
)
def test_rings_open_one_after_the_other(load: float, open_rings: list[int]) -> None:
    assert [ring for ring in range(-1, 6) if ring_is_open(ring, load, RULES)] == open_rings


def test_ring_limits() -> None:
    always = parameters({"ring_unlock": [0.0, 0.0, 0.0]})
    never = parameters({"ring_unlock": [1.01, 1.01, 1.01]})
    assert [ring_is_open(ring, 0.0, always) for ring in (0, 1, 2, 3, 4)] == [False, True, True, True, False]
    assert not any(ring_is_open(ring, 1.0, never) for ring in range(5))


FLEET = View(
    home=1, ring=[2, 0, 1, 1, 1], rtt_us=[70_000, 0, 12_000, 9_000, 9_000], offered=[4, 9, 4, 4, 4], age_us=[0] * 5,
    serves=[1] * 5, load=[0.0] * 5, waiting=0, run_us=0,
)  # fmt: skip


def test_nearest_first_by_ring_then_round_trip_then_index() -> None:
    rules = parameters({"regions_per_attempt_max": 5})
    tried, order = 1 << FLEET.home, []
    for asked in range(1, 6):
        region = next_region(tried, asked, 1.0, rules, FLEET)
        order.append(region)
        tried |= 1 << max(region, 0)
    assert order == [3, 4, 2, 0, -1]


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("age_us", RULES.snapshot_age_max_us, True),
        ("age_us", RULES.snapshot_age_max_us + 1, False),
        ("age_us", -1, False),
        ("offered", 1, True),
        ("offered", 0, False),
        ("serves", 0, False),
        ("ring", 0, False),
        ("ring", 4, False),
    ],
)
def test_what_makes_a_candidate(column: str, value: int, allowed: bool) -> None:
    values = list(getattr(FLEET, column))
    values[3] = value
    assert is_candidate(3, 0, 1.0, RULES, FLEET._replace(**{column: values})) == allowed


def test_the_last_region_of_the_largest_fleet_is_found() -> None:
    count = REGIONS_MAX
    view = View(
        home=0, ring=[0] + [1] * (count - 1), rtt_us=[0] + [5] * (count - 1), offered=[0] * (count - 1) + [1],
        age_us=[0] * count, serves=[1] * count, load=[1.0] * count, waiting=0, run_us=0,
    )  # fmt: skip
    assert next_region(1, 1, 1.0, RULES, view) == count - 1
    assert next_region(1 | 1 << (count - 1), 2, 1.0, RULES, view) == -1


def test_another_serves() -> None:
    closed = parameters({"ring_unlock": [0.7, 1.01, 1.01]})
    nobody = FLEET._replace(serves=[0] * 5)
    assert not another_serves(RULES, nobody)
    assert not another_serves(RULES, nobody._replace(serves=[0, 1, 0, 0, 0]))  # home alone
    assert another_serves(RULES, nobody._replace(serves=[1, 0, 0, 0, 0]))  # ring 2, which can open
    assert not another_serves(closed, nobody._replace(serves=[1, 0, 0, 0, 0]))  # ring 2, which never does
