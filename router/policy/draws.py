"""Randomness as an argument: counter-based draws.

A draw is a hash of (seed, request, attempt, purpose), not the next number of a stream. Two policies compared on the same
seed therefore see the same luck for the same request (exact common random numbers), whatever else they do, and a decision
can be replayed from its record.

The hash works in 32-bit lanes because Python's integers are unbounded and numba's wrap at 64 bits: the low 32 bits of a
product are the same in both, so masking after each multiplication gives identical results. The finaliser is the
"lowbias32" constant set of Chris Wellons' hash-prospector (public domain).
"""

import hashlib

from router.policy.jit import shared

_MASK = 0xFFFFFFFF


def request_key(request_id: str) -> int:
    """Map a request id to an int in [0, 2**62): the identity that draws are keyed by."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") >> 2


@shared
def mix32(value: int) -> int:
    """Scramble the low 32 bits of `value`; every input bit flips about half of the output bits."""
    mixed = value & _MASK
    mixed ^= mixed >> 16
    mixed = (mixed * 0x7FEB352D) & _MASK
    mixed ^= mixed >> 15
    mixed = (mixed * 0x846CA68B) & _MASK
    mixed ^= mixed >> 16
    return mixed


@shared
def draw(seed: int, key: int, attempt: int, purpose: int) -> float:
    """Uniform in [0, 1) with 53 bits, from non-negative ints below 2**62.

    `key` is `request_key` of the request, `attempt` its placement round, `purpose` the kind of the event being decided.
    """
    high = mix32(seed ^ 0x2545F491)
    high = mix32(high ^ (seed >> 32))
    high = mix32(high ^ key)
    high = mix32(high ^ (key >> 32))
    high = mix32(high ^ (attempt * 0x9E37 + purpose))
    # A second lane over the same input in another order: two inputs that meet in one lane part in the other.
    low = mix32((attempt * 0x85EB + purpose) ^ 0x5BD1E995)
    low = mix32(low ^ (key >> 32))
    low = mix32(low ^ key)
    low = mix32(low ^ (seed >> 32))
    low = mix32(low ^ seed)
    return ((high << 21) | (low >> 11)) / 9007199254740992.0
