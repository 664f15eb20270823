"""How long to wait after a refused round.

Exponential backoff with full jitter ("Exponential Backoff and Jitter", AWS Architecture Blog 2015): a draw from
[0, min(cap, base * 2^(attempt - 1))). When the ledger knows the time until a slot frees, asking earlier is pointless, so the
draw comes on top of it; and because everybody who waits knows the same time, the draw's window grows to the time in which
the slots of the pool work off those who wait: `run * waiting / slots`. Waiters then come back about as fast as slots free,
instead of all at once for the first one.
"""

from router.policy.jit import shared
from router.policy.parameters import Parameters

_DOUBLINGS_MAX = 62
"""Shifting an int64 further says nothing; by then every base of at least a microsecond is beyond every cap."""


@shared
def window_us(attempt: int, parameters: Parameters) -> int:
    """Backoff window after the refused round `attempt` (from 1), in microseconds."""
    doublings = min(max(attempt - 1, 0), _DOUBLINGS_MAX)
    # The cap is halved instead of the base doubled: the doubled base could overflow the compiled policy's int64.
    if parameters.backoff_base_us > parameters.backoff_cap_us >> doublings:
        return parameters.backoff_cap_us
    return parameters.backoff_base_us << doublings


@shared
def work_off_us(run_us: int, waiting: int, slots: int, parameters: Parameters) -> int:
    """Time in which `slots` slots work off `waiting` requests of `run_us` each, at most the backoff cap."""
    if slots <= 0 or run_us <= 0 or waiting <= 0:
        return 0
    return int(min(float(parameters.backoff_cap_us), float(run_us) * waiting / slots))


@shared
def wait_us(attempt: int, eta_us: int, work_off: int, u: float, parameters: Parameters) -> int:
    """Time until the next round. `eta_us` 0 means unknown; `work_off` from `work_off_us`; `u` in [0, 1)."""
    window = window_us(attempt, parameters)
    if eta_us <= 0:
        return int(u * window)
    return eta_us + int(u * max(window, work_off))
