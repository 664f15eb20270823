"""What a region lets others use: receiver consent.

A region keeps `kept = floor(slots * reserve_share + 0.5)` slots for its own traffic and offers the rest of what is free. The
offer is advice to the others; the region's own router refuses beyond it, atomically, in its slot ledger.
"""

from router.policy.jit import shared


@shared
def offer(slots: int, busy: int, reserve_share: float) -> int:
    """Slots that others may use now, from the region's slots and busy slots."""
    kept = int(slots * reserve_share + 0.5)
    return max(0, slots - kept - busy)
