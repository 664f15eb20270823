"""Where to ask next: home first, then the rings that home's load has unlocked, nearest first.

A ring is a distance band round home. Ring r opens once home's load (busy / slots) reaches `ring_unlock[r - 1]`; a home that
refused the request counts as fully loaded. Inside the open rings the order is ring, then round-trip time, then index: near
regions fill before far ones. A region is asked at most once a round, and only when its snapshot is fresh, says that it
serves the model, and says that it offers a slot; its own router still decides (receiver consent).
"""

from router.policy.jit import shared
from router.policy.parameters import Parameters
from router.policy.state import View


@shared
def ring_is_open(ring: int, home_load: float, parameters: Parameters) -> bool:
    """Whether `ring` (1 to 3) may be asked at this home load."""
    return 1 <= ring <= 3 and home_load >= parameters.ring_unlock[ring - 1]


@shared
def is_candidate(region: int, tried: int, home_load: float, parameters: Parameters, view: View) -> bool:
    """Whether this region may be asked now, in this round."""
    if region == view.home or (tried >> region) & 1 == 1:
        return False
    if not ring_is_open(view.ring[region], home_load, parameters):
        return False
    fresh = 0 <= view.age_us[region] <= parameters.snapshot_age_max_us
    return fresh and view.serves[region] == 1 and view.offered[region] > 0


@shared
def next_region(tried: int, asked: int, home_load: float, parameters: Parameters, view: View) -> int:
    """The nearest region that may be asked next, or -1. `tried` and `asked` as in `State`."""
    best = -1
    if asked >= parameters.regions_per_attempt_max:
        return best
    for region in range(len(view.ring)):
        if not is_candidate(region, tried, home_load, parameters, view):
            continue
        if (
            best < 0
            or view.ring[region] < view.ring[best]
            or (view.ring[region] == view.ring[best] and view.rtt_us[region] < view.rtt_us[best])
        ):
            best = region
    return best


@shared
def another_serves(parameters: Parameters, view: View) -> bool:
    """Whether a region other than home is known to serve the model, in a ring that can ever open."""
    for region in range(len(view.ring)):
        if region != view.home and view.serves[region] == 1 and ring_is_open(view.ring[region], 1.0, parameters):
            return True
    return False
