"""Means of run times."""

import time
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from homeward.v1.fleet_pb2 import ServiceTime
from workers.service_times import WEIGHT, ServiceTimes, measure_warm_up

if TYPE_CHECKING:
    from tests.workers.conftest import FakeModel


def test_until_a_job_ran_the_warm_up_stands_and_nothing_is_reported() -> None:
    times = ServiceTimes({"a": 700, "b": 900})
    assert (times.mean_ms("a"), times.report()) == (700, [])
    times.observe("a", 100)
    assert times.report() == [ServiceTime(variant="a", jobs=1, mean_ms=100)]
    assert times.mean_ms("b") == 900


@given(st.lists(st.integers(1, 600_000), min_size=1, max_size=30))
def test_the_mean_is_exponentially_weighted(runs_ms: list[int]) -> None:
    times = ServiceTimes({"a": 5})
    for run_ms in runs_ms:
        times.observe("a", run_ms)
    last = len(runs_ms) - 1
    weights = [(WEIGHT if age < last else 1.0) * (1 - WEIGHT) ** age for age in range(last, -1, -1)]
    expected = sum(weight * run_ms for weight, run_ms in zip(weights, runs_ms, strict=True))
    assert abs(times.mean_ms("a") - expected) <= 0.51
    assert min(runs_ms) <= times.mean_ms("a") <= max(runs_ms)
    assert times.report()[0].jobs == len(runs_ms)


def test_the_warm_up_is_timed(new_model: "type[FakeModel]") -> None:
    class Slow(new_model):  # type: ignore[misc, valid-type]
        def generate(self, request: object, on_step: object) -> None:
            time.sleep(0.03)

    assert 30 <= measure_warm_up(Slow()) < 3_000
    assert measure_warm_up(new_model()) >= 1
