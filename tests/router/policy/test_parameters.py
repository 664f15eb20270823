"""Parameters: one place for defaults, seconds in and microseconds out, and errors that name the key and the remedy."""

import re
import tomllib
from collections.abc import Mapping
from importlib import resources

import pytest

from router.policy.parameters import ParameterError, Parameters, parameters

DAY_S = 86_400.0


def nested(path: str, value: object) -> dict[str, object]:
    """The override that sets `path` ("backoff.base_s") to `value`."""
    table, _, key = path.rpartition(".")
    return {table: {key: value}} if table else {key: value}


def test_defaults_are_those_of_the_file() -> None:
    text = resources.files("router.policy").joinpath("default.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    rules = parameters()
    assert rules == Parameters(
        attempts_max=values["attempts_max"],
        regions_per_attempt_max=values["regions_per_attempt_max"],
        ring_unlock=tuple(values["ring_unlock"]),
        backoff_base_us=round(values["backoff"]["base_s"] * 1e6),
        backoff_cap_us=round(values["backoff"]["cap_s"] * 1e6),
        start_delay_share_max=values["start_delay"]["share_max"],
        start_delay_spread_max_us=round(values["start_delay"]["spread_max_s"] * 1e6),
        start_delay_pressure_from=values["start_delay"]["pressure_from"],
        retry_budget_share=values["retry_budget"]["share"],
        retry_budget_floor_per_s=values["retry_budget"]["floor_per_s"],
        waiting_max=values["waiting_max"],
        reserve_share=values["reserve_share"],
        snapshot_age_max_us=round(values["snapshot_age_max_s"] * 1e6),
    )
    assert parameters({}) == rules


def test_every_default_has_a_comment() -> None:
    lines = resources.files("router.policy").joinpath("default.toml").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("[") or ("=" in line and not line.startswith("#")):
            before = lines[number - 1]
            assert before.startswith(("#", "[")) or "=" in before, line


def test_every_field_is_documented() -> None:
    assert all(field.isidentifier() for field in Parameters._fields)
    source = resources.files("router.policy").joinpath("parameters.py").read_text(encoding="utf-8")
    for field in Parameters._fields:
        assert re.search(rf'^    {field}: .+\n    """\S', source, re.MULTILINE), field


WHOLE = [
    ("attempts_max", "attempts_max", 1, 100),
    ("regions_per_attempt_max", "regions_per_attempt_max", 1, 62),
    ("waiting_max", "waiting_max", 0, 1_000_000),
]
NUMBERS = [
    ("reserve_share", "reserve_share", 0.0, 1.0),
    ("start_delay.share_max", "start_delay_share_max", 0.0, 1.0),
    ("start_delay.pressure_from", "start_delay_pressure_from", 0.0, 1.0),
    ("retry_budget.share", "retry_budget_share", 0.0, 1.0),
    ("retry_budget.floor_per_s", "retry_budget_floor_per_s", 0.0, 1000.0),
]
DURATIONS = [
    ("snapshot_age_max_s", "snapshot_age_max_us", DAY_S),
    # A delayed job holds its slot.
    ("start_delay.spread_max_s", "start_delay_spread_max_us", 60.0),
    ("backoff.cap_s", "backoff_cap_us", DAY_S),
]


def refused(overrides: Mapping[str, object], path: str) -> str:
    """The message with which `overrides` are refused; it names the key."""
    with pytest.raises(ParameterError) as caught:
        parameters(overrides)
    assert path in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("path", "field", "low", "high"), WHOLE)
def test_whole_numbers(path: str, field: str, low: int, high: int) -> None:
    for good in (low, high):
        assert getattr(parameters(nested(path, good)), field) == good
    for bad in (low - 1, high + 1, -(10**30), 10**30, 1.0, 1.5, "1", None, True, [1], float("nan")):
        assert repr(bad) in refused(nested(path, bad), path)


@pytest.mark.parametrize(("path", "field", "low", "high"), NUMBERS)
def test_numbers(path: str, field: str, low: float, high: float) -> None:
    for good in (low, high, int(high)):
        value = getattr(parameters(nested(path, good)), field)
        assert value == good
        assert isinstance(value, float)
    for bad in (low - 1e-9, high * 1.001, float("nan"), float("inf"), float("-inf"), "0.5", None, True, [0.5], {}):
        assert repr(bad) in refused(nested(path, bad), path)


@pytest.mark.parametrize(("path", "field", "most_s"), DURATIONS)
def test_durations_are_seconds_in_files_and_microseconds_in_code(path: str, field: str, most_s: float) -> None:
    for good, us in ((0.3, 300_000), (1, 1_000_000), (2.5, 2_500_000), (0.6000004, 600_000), (most_s, round(most_s * 1e6))):
        value = getattr(parameters({**nested("backoff.base_s", 0), **nested(path, good)}), field)
        assert value == us
        assert isinstance(value, int)
    for bad in (-1e-6, most_s + 0.001, float("nan"), float("inf"), "1s", None, False, [1.0]):
        assert repr(bad) in refused(nested(path, bad), path)


def test_a_whole_number_beyond_every_float_is_refused_like_any_other() -> None:
    """TOML integers have no bound in Python; `math.isfinite` raises OverflowError for this one."""
    refused({"reserve_share": 10**400}, "reserve_share")


@pytest.mark.parametrize("base_s", [-0.1, DAY_S + 1, "0.25", None, True])
def test_base_of_the_backoff(base_s: object) -> None:
    refused({"backoff": {"base_s": base_s, "cap_s": DAY_S}}, "backoff.base_s")


def test_cap_is_not_below_base() -> None:
    refused({"backoff": {"base_s": 9.0}}, "backoff.cap_s")
    refused({"backoff": {"cap_s": 0.1}}, "backoff.cap_s")
    same = parameters({"backoff": {"base_s": 3.0, "cap_s": 3.0}})
    assert same.backoff_base_us == same.backoff_cap_us == 3_000_000


@pytest.mark.parametrize(
    "unlock", [[0.5, 0.5, 0.5], [0, 0, 0], [0.0, 1.0, 1.01], (0.7, 0.8, 0.9), [1e9, 1e9, 1e9]]
)
def test_ring_unlock_that_is_allowed(unlock: list[float]) -> None:
    given = parameters({"ring_unlock": unlock}).ring_unlock
    assert given == tuple(unlock)
    assert all(isinstance(value, float) for value in given)


@pytest.mark.parametrize(
    "unlock",
    [
        [0.7, 0.8], [0.7, 0.8, 0.9, 1.0], [], 0.7, "0.7", None, {"1": 0.7}, [0.8, 0.7, 0.9], [0.7, 0.9, 0.8], [-0.1, 0.5, 0.5],
        [0.7, 0.8, float("inf")], [float("nan"), 0.8, 0.9], ["0.7", 0.8, 0.9], [True, True, True], [0.7, None, 0.9],
    ],
)  # fmt: skip
def test_ring_unlock_that_is_refused(unlock: object) -> None:
    refused({"ring_unlock": unlock}, "ring_unlock")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"attempt_max": 3}, "unknown policy key 'attempt_max'; did you mean 'attempts_max'?"),
        ({"backoff": {"base": 1.0}}, "unknown policy key backoff.'base'; did you mean 'base_s'?"),
        ({"start_delay": {"share": 0.1}}, "unknown policy key start_delay.'share'; did you mean 'share_max'?"),
        ({"zzz": 1}, "unknown policy key 'zzz'; known keys: attempts_max, "),
        ({"backoff": {"zzz": 1}}, "unknown policy key backoff.'zzz'; known keys: base_s, cap_s"),
    ],
)
def test_an_unknown_key_names_the_nearest(overrides: Mapping[str, object], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parameters(overrides)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("value", [1, "x", [1], None])
def test_a_table_is_a_table(value: object) -> None:
    assert "base_s, cap_s" in refused({"backoff": value}, "backoff")


@pytest.mark.parametrize("value", [{"x": 1}, {}])
def test_a_number_is_not_a_table(value: object) -> None:
    refused({"attempts_max": value}, "attempts_max")


def test_overrides_merge_key_by_key() -> None:
    rules = parameters({"start_delay": {"share_max": 0.5}, "attempts_max": 2})
    assert rules == parameters()._replace(start_delay_share_max=0.5, attempts_max=2)
    assert parameters() == parameters({})  # an override leaves the defaults alone


def test_overrides_are_not_changed() -> None:
    overrides = {"backoff": {"base_s": 1.0}, "ring_unlock": [0.1, 0.2, 0.3]}
    parameters(overrides)
    assert overrides == {"backoff": {"base_s": 1.0}, "ring_unlock": [0.1, 0.2, 0.3]}


def test_an_error_of_a_parameter_is_a_value_error() -> None:
    assert issubclass(ParameterError, ValueError)
