"""Every status as the exception it becomes."""

import grpc
import pytest
from google.rpc import status_pb2

from homeward import (
    Cancelled,
    Client,
    DeadlineExceeded,
    DuplicateRequest,
    HomewardError,
    InternalError,
    InvalidRequest,
    ModelUnavailable,
    NoCapacity,
    NotFound,
    Outcome,
    RouterUnavailable,
    WorkerFailed,
)
from homeward.errors import error_of_status
from homeward.v1 import outcome_pb2

from .fake_router import FakeRouter, refuse

Code = grpc.StatusCode

OUTCOMES = [
    (Code.UNAVAILABLE, "NO_CAPACITY", NoCapacity),
    (Code.DEADLINE_EXCEEDED, "DEADLINE_HOPELESS", DeadlineExceeded),
    (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", DeadlineExceeded),
    (Code.CANCELLED, "CANCELLED", Cancelled),
    (Code.INVALID_ARGUMENT, "INVALID", InvalidRequest),
    (Code.FAILED_PRECONDITION, "MODEL_UNAVAILABLE", ModelUnavailable),
    (Code.UNAVAILABLE, "RETRY_BUDGET_SPENT", NoCapacity),
    (Code.UNAVAILABLE, "WAITING_FULL", NoCapacity),
    (Code.UNAVAILABLE, "WORKER_FAILED", WorkerFailed),
    (Code.UNAVAILABLE, "LEDGER_DOWN", RouterUnavailable),
    (Code.UNAVAILABLE, "DRAINING", RouterUnavailable),
    (Code.ALREADY_EXISTS, "DUPLICATE", DuplicateRequest),
    (Code.INTERNAL, "INTERNAL", InternalError),
]


@pytest.mark.parametrize(("code", "reason", "kind"), OUTCOMES)
def test_every_outcome_has_its_class(code: grpc.StatusCode, reason: str, kind: type[HomewardError]) -> None:
    with FakeRouter(refuse(code, reason, retry_after_s=0.75, field="animate.motion")) as router:
        with Client(router.target) as client, pytest.raises(HomewardError) as caught:
            client.run(photo=b"photo", request_id="request-1")
        assert router.calls == 1, "the SDK never retries"
    error = caught.value
    assert type(error) is kind
    assert error.outcome is Outcome(reason)
    assert (error.reason, error.request_id, error.status_code) == (reason, "request-1", code.name)
    assert error.retry_after_s == 0.75
    assert error.work_began is False
    assert error.violations[0].field == "animate.motion"
    assert str(error) == "no, and why"


def test_the_table_of_outcomes_is_complete() -> None:
    names = {name.removeprefix("OUTCOME_") for name, _ in outcome_pb2.Outcome.items()}
    assert {outcome.value for outcome in Outcome} == names
    assert {reason for _, reason, _ in OUTCOMES} == names - {"UNSPECIFIED", "OK"}
    for name, number in outcome_pb2.Outcome.items():
        assert Outcome.of_number(number) is Outcome.of_name(name)
    assert Outcome.of_number(9999) is Outcome.UNSPECIFIED


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.UNAVAILABLE, RouterUnavailable),
        (Code.UNIMPLEMENTED, RouterUnavailable),
        (Code.DEADLINE_EXCEEDED, DeadlineExceeded),
        (Code.CANCELLED, Cancelled),
        (Code.INVALID_ARGUMENT, InvalidRequest),
        (Code.NOT_FOUND, NotFound),
        (Code.INTERNAL, InternalError),
        (Code.UNKNOWN, InternalError),
        (Code.PERMISSION_DENIED, HomewardError),
        (None, InternalError),
    ],
)
def test_a_bare_status_is_translated_by_its_code(code: grpc.StatusCode | None, kind: type[HomewardError]) -> None:
    assert type(error_of_status(code, "words", None)) is kind


def test_a_reason_of_a_newer_router_keeps_its_name() -> None:
    script = refuse(Code.UNAVAILABLE, "SOLAR_FLARE", work_began="true")
    with FakeRouter(script) as router, Client(router.target) as client, pytest.raises(RouterUnavailable) as caught:
        client.run(photo=b"photo")
    assert caught.value.reason == "SOLAR_FLARE"
    assert caught.value.outcome is Outcome.UNSPECIFIED
    assert caught.value.work_began is True


def test_a_status_of_another_domain_is_not_ours() -> None:
    script = refuse(Code.UNAVAILABLE, "NO_CAPACITY", domain="example.com")
    with FakeRouter(script) as router, Client(router.target) as client, pytest.raises(HomewardError) as caught:
        client.run(photo=b"photo")
    assert type(caught.value) is RouterUnavailable


@pytest.mark.parametrize("packed", [b"\xff\xff\xff", b"", status_pb2.Status(message="bare").SerializeToString()])
def test_unreadable_details_are_left_aside(packed: bytes) -> None:
    error = error_of_status(Code.INTERNAL, "words", [("grpc-status-details-bin", packed)], request_id="request-1")
    assert type(error) is InternalError
    assert error.request_id == "request-1"


def test_a_server_that_is_no_router() -> None:
    server = grpc.server(None, options=[("grpc.so_reuseport", 0)])
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with Client(target) as client, pytest.raises(RouterUnavailable, match="no Homeward router"):
            client.regions()
    finally:
        server.stop(None).wait(5)
