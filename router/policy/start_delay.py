"""Marginal execution delay: when a region runs hot, a share of the granted jobs starts a little later.

Jobs then become runnable gradually instead of all at once. It is not backoff: the slot is already granted, and most jobs are
not delayed at all. Both the share and the spread follow one ramp of the serving region's pressure,

    ramp   = clamp((pressure - pressure_from) / (1 - pressure_from), 0, 1)
    share  = share_max * ramp
    spread = spread_max * ramp

and one uniform draw decides both: `u < share` picks the job, and `u / share`, again uniform in [0, 1), its delay.
"""

from router.policy.jit import shared
from router.policy.parameters import Parameters


@shared
def pressure_of(busy: int, waiting: int, slots: int) -> float:
    """(busy + waiting) / slots, at most 1; 1 where there is no slot. `busy` without the job that is being decided."""
    if slots <= 0:
        return 1.0
    return min(1.0, (busy + waiting) / slots)


@shared
def ramp_of(pressure: float, parameters: Parameters) -> float:
    """0 below `pressure_from`, 1 at pressure 1, straight in between."""
    start = parameters.start_delay_pressure_from
    if start >= 1.0:
        return 1.0 if pressure >= 1.0 else 0.0
    return min(1.0, max(0.0, (pressure - start) / (1.0 - start)))


@shared
def share_of(pressure: float, parameters: Parameters) -> float:
    """Share of granted jobs that start later, in [0, 1]."""
    return parameters.start_delay_share_max * ramp_of(pressure, parameters)


@shared
def delay_us(pressure: float, u: float, slack_us: int, parameters: Parameters) -> int:
    """Start delay of one job in microseconds, never more than `slack_us` (what the deadline leaves). `u` in [0, 1)."""
    share = share_of(pressure, parameters)
    if u >= share or slack_us <= 0:
        return 0
    spread = parameters.start_delay_spread_max_us * ramp_of(pressure, parameters)
    return min(slack_us, int(u / share * spread))
