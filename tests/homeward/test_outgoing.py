"""What the SDK refuses to send, and the ids it makes."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeward import InvalidRequest, incoming, new_request_id
from homeward.outgoing import CHANNEL_OPTIONS, MOTION_LENGTH_MAX, PHOTO_BYTES_MAX, build_request
from homeward.request_ids import is_request_id


@pytest.mark.parametrize(
    ("field", "parameters"),
    [
        ("photo", {"photo": b""}),
        ("photo", {"photo": "cat.jpg"}),
        ("photo", {"photo": bytes(PHOTO_BYTES_MAX + 1)}),
        ("model", {"model": ""}),
        ("model", {"model": "m" * 65}),
        ("animate.motion", {"motion": "m" * 33}),
        ("animate.motion", {"motion": "sway\n"}),
        ("animate.motion", {"motion": None}),
        ("animate.strength", {"strength": -0.1}),
        ("animate.strength", {"strength": 2.1}),
        ("animate.strength", {"strength": math.nan}),
        ("animate.direction_degrees", {"direction_degrees": 361.0}),
        ("animate.direction_degrees", {"direction_degrees": math.inf}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**64}),
        ("seed", {"seed": 1.5}),
        ("seed", {"seed": True}),
        ("timeout_s", {"timeout_s": 0}),
        ("timeout_s", {"timeout_s": -1}),
        ("timeout_s", {"timeout_s": 601}),
        ("timeout_s", {"timeout_s": math.nan}),
        ("timeout_s", {"timeout_s": math.inf}),
        ("timeout_s", {"timeout_s": None}),
        ("request_id", {"request_id": "short"}),
        ("request_id", {"request_id": "x" * 65}),
        ("request_id", {"request_id": "has space"}),
        ("request_id", {"request_id": "newline-at-end\n"}),
        ("request_id", {"request_id": 12345678}),
        ("home_region", {"home_region": "r" * 65}),
    ],
)
def test_one_wrong_field_is_named(field: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build_request(**{"model": "animate", "photo": b"photo"} | parameters)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_bounds_themselves_are_allowed() -> None:
    request = build_request(
        model="m" * 64,
        photo=memoryview(bytes(PHOTO_BYTES_MAX)),
        motion="m" * 32,
        strength=2.0,
        direction_degrees=-360.0,
        seed=2**64 - 1,
        timeout_s=600,
        request_id="x" * 64,
    )
    assert len(request.photo) == PHOTO_BYTES_MAX


def test_the_bounds_are_those_of_the_router() -> None:
    pytest.importorskip("redis")
    from router import dispatch, request_check

    assert incoming.OUTPUT_BYTES_MAX == dispatch.OUTPUT_BYTES_MAX
    assert request_check.MOTION_NAME.fullmatch("m" * MOTION_LENGTH_MAX)
    assert not request_check.MOTION_NAME.fullmatch("m" * (MOTION_LENGTH_MAX + 1))


def test_grpc_does_not_retry() -> None:
    assert dict(CHANNEL_OPTIONS)["grpc.enable_retries"] == 0


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
def test_request_ids_sort_by_time(one_ms: int, other_ms: int) -> None:
    one, other = new_request_id(one_ms), new_request_id(other_ms)
    assert is_request_id(one)
    assert len(one) == 26
    assert one == one.lower()
    if one_ms != other_ms:
        assert (one < other) == (one_ms < other_ms)


def test_request_ids_of_one_millisecond_differ() -> None:
    assert len({new_request_id(1) for _ in range(1000)}) == 1000
