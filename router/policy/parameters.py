"""The numbers that operators may change, with their formulas.

Every default stands in `default.toml`, next to this file, and nowhere else. Files give seconds; code works in int64
microseconds. Building `Parameters` validates: an unknown key is an error that names the nearest known one.
"""

import difflib
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

MICROSECONDS = 1_000_000
DURATION_S_MAX = 86_400.0
RETRY_BUDGET_WINDOW_S = 10
"""Credit older than this is worth nothing, as in Finagle's RetryBudget (10 s)."""
RETRY_BUDGET_TOKENS_MAX = 10_000
"""No budget holds more, however much fresh traffic there was: 1,000 retries a second over the window."""
START_DELAY_S_MAX = 60.0
"""A delayed job holds its slot unused; a slot whose router died stays taken for this long on top of its reservation."""


class ParameterError(ValueError):
    """A policy parameter is unknown, of the wrong type, or out of range. The message says which and what is allowed."""


class Parameters(NamedTuple):
    """Validated policy parameters. The formulas are those of the modules that use them."""

    attempts_max: int
    """Placement rounds a request may use, 1 to 100."""
    regions_per_attempt_max: int
    """Regions asked in one round, home included, 1 to 62."""
    ring_unlock: tuple[float, float, float]
    """Home load (busy / slots, 0 to 1) from which ring 1, 2, 3 may be asked. Above 1: never."""
    backoff_base_us: int
    """Window of the first backoff; it doubles each round."""
    backoff_cap_us: int
    """The window never grows beyond this."""
    start_delay_share_max: float
    """Share of granted jobs that start later when pressure is 1, in [0, 1]."""
    start_delay_spread_max_us: int
    """Longest start delay when pressure is 1."""
    start_delay_pressure_from: float
    """Pressure at which the first job is delayed, in [0, 1]."""
    retry_budget_share: float
    """Retries allowed per fresh request, in [0, 1]."""
    retry_budget_floor_per_s: float
    """Retries a second allowed whatever the traffic, 0 to 1,000."""
    waiting_max: int
    """Requests that may wait for a slot in one router, at least 0."""
    reserve_share: float
    """Share of its slots that a region keeps from its offer to others, in [0, 1]."""
    snapshot_age_max_us: int
    """A region whose snapshot is older than this is not asked."""


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ParameterError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ParameterError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    return value


def _duration_us(name: str, value: object, most_s: float = DURATION_S_MAX) -> int:
    return round(_number(name, value, 0.0, most_s) * MICROSECONDS)


def _refuse_unknown(where: str, given: Mapping[str, object], known: Mapping[str, object]) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
            raise ParameterError(f"unknown policy key {where}{key!r}{hint}")


def _merge(base: Mapping[str, object], over: Mapping[str, object], where: str = "") -> dict[str, object]:
    _refuse_unknown(where, over, base)
    merged = dict(base)
    for key, value in over.items():
        inner = base[key]
        if isinstance(inner, Mapping):
            if not isinstance(value, Mapping):
                raise ParameterError(f"{where}{key} must be a table with the keys {', '.join(inner)}, not {value!r}")
            merged[key] = _merge(inner, value, f"{where}{key}.")
        else:
            merged[key] = value
    return merged


@cache
def _default_values() -> dict[str, object]:
    return tomllib.loads(resources.files(__package__).joinpath("default.toml").read_text(encoding="utf-8"))


def _table(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    table = values[key]
    assert isinstance(table, Mapping)
    return table


def parameters(overrides: Mapping[str, object] | None = None) -> Parameters:
    """Build parameters from `default.toml` and `overrides` (same keys, any subset). Raises `ParameterError`."""
    values = _merge(_default_values(), overrides or {})
    unlock = values["ring_unlock"]
    if not isinstance(unlock, list | tuple) or len(unlock) != 3:
        raise ParameterError(f"ring_unlock must be three loads, one for each ring, not {unlock!r}")
    rings = tuple(_number(f"ring_unlock[{index}]", value, 0.0, 1e9) for index, value in enumerate(unlock))
    if list(rings) != sorted(rings):
        raise ParameterError(f"ring_unlock must not fall: a farther ring opens later than a nearer one, not {unlock!r}")
    backoff, delay, budget = _table(values, "backoff"), _table(values, "start_delay"), _table(values, "retry_budget")
    floor_max_per_s = RETRY_BUDGET_TOKENS_MAX / RETRY_BUDGET_WINDOW_S
    base_us = _duration_us("backoff.base_s", backoff["base_s"])
    cap_us = _duration_us("backoff.cap_s", backoff["cap_s"])
    if cap_us < base_us:
        raise ParameterError(f"backoff.cap_s must be at least backoff.base_s, not {backoff['cap_s']!r}")
    return Parameters(
        attempts_max=_whole("attempts_max", values["attempts_max"], 1, 100),
        regions_per_attempt_max=_whole("regions_per_attempt_max", values["regions_per_attempt_max"], 1, 62),
        ring_unlock=(rings[0], rings[1], rings[2]),
        backoff_base_us=base_us,
        backoff_cap_us=cap_us,
        start_delay_share_max=_number("start_delay.share_max", delay["share_max"], 0.0, 1.0),
        start_delay_spread_max_us=_duration_us("start_delay.spread_max_s", delay["spread_max_s"], START_DELAY_S_MAX),
        start_delay_pressure_from=_number("start_delay.pressure_from", delay["pressure_from"], 0.0, 1.0),
        retry_budget_share=_number("retry_budget.share", budget["share"], 0.0, 1.0),
        retry_budget_floor_per_s=_number("retry_budget.floor_per_s", budget["floor_per_s"], 0.0, floor_max_per_s),
        waiting_max=_whole("waiting_max", values["waiting_max"], 0, 1_000_000),
        reserve_share=_number("reserve_share", values["reserve_share"], 0.0, 1.0),
        snapshot_age_max_us=_duration_us("snapshot_age_max_s", values["snapshot_age_max_s"]),
    )
