"""Request ids: the idempotency keys that a gateway puts on its requests.

An id is 26 characters of Crockford's base 32 in lower case: 48 bits of Unix milliseconds, then 80 random bits. So ids made
later sort later (to the millisecond), two gateways need no coordination, and none is a prefix of another (one length).
80 bits: a thousand ids in the same millisecond collide with a chance below 10⁻¹⁸ (n² / 2⁸¹).
"""

import re
import secrets
import time

# Crockford's alphabet has no i, l, o, u. In ASCII order, which is what makes ids sort by time.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26  # 128 bits need 25.6 characters of 5 bits
_RANDOM_BITS = 80

REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{8,64}")
"""What `GenerateRequest.request_id` allows. Compare with `fullmatch`."""


def new_request_id(now_ms: int | None = None) -> str:
    """Return a fresh id. `now_ms` is the Unix time in milliseconds, the clock's unless given."""
    if now_ms is None:
        now_ms = time.time_ns() // 1_000_000
    number = ((now_ms & ((1 << 48) - 1)) << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))


def is_request_id(text: str) -> bool:
    """Whether a router accepts `text` as a request id."""
    return REQUEST_ID_PATTERN.fullmatch(text) is not None
