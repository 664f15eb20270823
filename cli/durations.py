"""Durations as people type them: "60s", "1500ms", "2m"."""

import re

from cli.failure import asked_wrongly
from homeward.outgoing import TIMEOUT_S_MAX

_PATTERN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def parse_duration(text: str, option: str) -> float:
    """Return seconds. Raises `Failure` (asked wrongly) unless it is above 0 and at most ten minutes."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise asked_wrongly(f"{option} {text!r} is no duration: write for example 60s, 1500ms or 2m")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= TIMEOUT_S_MAX:
        raise asked_wrongly(f"{option} {text} is out of range: above 0 and at most {TIMEOUT_S_MAX / 60:g}m")
    return seconds
