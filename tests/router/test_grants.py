"""Grants: the layout that workers verify, and keys that are worth nothing elsewhere."""

import hashlib
import hmac
import time
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from homeward.request_digest import request_sha256
from homeward.v1 import generation_pb2, work_pb2
from router.capacity.ledger import Reserved
from router.grants import sign_grant, worker_key

SECRET = bytes(range(32))
RESERVED = Reserved(
    reservation_id="request-1.1.0.abcd", worker="gpu-1", incarnation="2", address="127.0.0.1:1", variant="animate-v1",
    digest="sha256:" + "a" * 64, service_us=50_000, epoch=7, fence=11, slots=1, busy=1, expires_in_us=10_000_000,
)  # fmt: skip
NAMES = st.from_regex(r"\A[A-Za-z0-9._-]{1,64}\Z")


def test_the_signature_covers_the_claims_as_they_are() -> None:
    grant = sign_grant(SECRET, "us-east", RESERVED, b"\1" * 32, 60_000_000)
    # Written out by hand, as a worker in another language would: HKDF-expand with one block, then HMAC over the bytes.
    label = b"homeward-grant-v1\0us-east\0gpu-1\x002\x01"
    key = hmac.new(SECRET, label, hashlib.sha256).digest()
    assert key == worker_key(SECRET, "us-east", "gpu-1", "2")
    assert len(key) == 32
    assert grant.signature == hmac.new(key, grant.claims, hashlib.sha256).digest()
    claims = work_pb2.GrantClaims.FromString(grant.claims)
    assert (claims.reservation_id, claims.region, claims.worker, claims.incarnation) == (
        "request-1.1.0.abcd", "us-east", "gpu-1", "2",
    )  # fmt: skip
    assert (claims.epoch, claims.fence, claims.request_sha256) == (7, 11, b"\1" * 32)
    assert (claims.variant, claims.variant_digest) == ("animate-v1", "sha256:" + "a" * 64)
    now_us = time.time_ns() // 1000
    assert abs(claims.start_before_unix_us - now_us - RESERVED.expires_in_us) < 5_000_000
    assert abs(claims.deadline_unix_us - now_us - 60_000_000) < 5_000_000


@settings(deadline=None)
@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_keys_differ_where_anything_differs(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    same = worker_key(SECRET, *one) == worker_key(SECRET, *other)
    assert same == (one == other)


def test_a_key_of_one_worker_signs_nothing_for_another() -> None:
    grant = sign_grant(SECRET, "us-east", RESERVED, b"\1" * 32, 60_000_000)
    for region, reserved in [
        ("eu-west", RESERVED), ("us-east", replace(RESERVED, worker="gpu-2")), ("us-east", replace(RESERVED, incarnation="3")),
    ]:  # fmt: skip
        other = worker_key(SECRET, region, reserved.worker, reserved.incarnation)
        assert hmac.new(other, grant.claims, hashlib.sha256).digest() != grant.signature
    assert worker_key(bytes(32), "us-east", "gpu-1", "2") != worker_key(SECRET, "us-east", "gpu-1", "2")


@settings(deadline=None)
@given(st.binary(max_size=50), st.integers(0, 2**64 - 1), st.text(max_size=10))
def test_the_digest_changes_with_the_content(photo: bytes, seed: int, motion: str) -> None:
    request = generation_pb2.GenerateRequest(request_id="request-1", model="animate", photo=photo, seed=seed)
    request.animate.motion = motion
    digest = request_sha256(request)
    assert digest == request_sha256(generation_pb2.GenerateRequest.FromString(request.SerializeToString()))
    assert len(digest) == 32
    request.photo = photo + b"x"
    assert request_sha256(request) != digest
