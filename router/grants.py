"""Signing grants: the right to use one slot of one worker once.

Each worker gets a key of its own, derived from the region's secret, its name and its incarnation (HMAC-SHA256 as a key
derivation function, RFC 5869's expand step with one block). A stolen worker key therefore forges nothing for another
worker, and a restarted worker's old key is worth nothing. The worker verifies; see `workers/grants.py`.
"""

import hashlib
import hmac
import time

from homeward.v1 import work_pb2
from router.capacity.ledger import Reserved

SECRET_BYTES = 32


def worker_key(secret: bytes, region: str, worker: str, incarnation: str) -> bytes:
    """Key with which this worker verifies its grants, 32 bytes."""
    label = "\0".join(("homeward-grant-v1", region, worker, incarnation)).encode()
    return hmac.new(secret, label + b"\x01", hashlib.sha256).digest()


def sign_grant(
    secret: bytes, region: str, reserved: Reserved, request_digest: bytes, time_left_us: int
) -> work_pb2.Grant:
    """Sign the right to use the reserved slot for the request with this digest, until `time_left_us` from now."""
    now_us = time.time_ns() // 1000
    claims = work_pb2.GrantClaims(
        reservation_id=reserved.reservation_id,
        region=region,
        worker=reserved.worker,
        incarnation=reserved.incarnation,
        epoch=reserved.epoch,
        fence=reserved.fence,
        request_sha256=request_digest,
        variant=reserved.variant,
        variant_digest=reserved.digest,
        # Later the ledger may have given the slot to somebody else.
        start_before_unix_us=now_us + reserved.expires_in_us,
        deadline_unix_us=now_us + time_left_us,
    ).SerializeToString(deterministic=True)
    key = worker_key(secret, region, reserved.worker, reserved.incarnation)
    return work_pb2.Grant(claims=claims, signature=hmac.new(key, claims, hashlib.sha256).digest())
