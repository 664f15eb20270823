"""Outcomes as statuses: what the contract promises of each."""

import grpc
import pytest
from google.rpc import error_details_pb2

from homeward import HomewardError, InvalidRequest
from homeward import errors as sdk
from homeward.v1 import outcome_pb2
from router.policy.vocabulary import Outcome
from router.status import CODES, DETAILS_KEY, DOMAIN, MESSAGES, RequestError, Violation, invalid, rich_status

ENDINGS = [outcome for outcome in Outcome if outcome not in (Outcome.NONE, Outcome.OK)]
CONTRACT = {
    Outcome.NO_CAPACITY: "UNAVAILABLE", Outcome.DEADLINE_HOPELESS: "DEADLINE_EXCEEDED",
    Outcome.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED", Outcome.CANCELLED: "CANCELLED", Outcome.INVALID: "INVALID_ARGUMENT",
    Outcome.MODEL_UNAVAILABLE: "FAILED_PRECONDITION", Outcome.RETRY_BUDGET_SPENT: "UNAVAILABLE",
    Outcome.WAITING_FULL: "UNAVAILABLE", Outcome.WORKER_FAILED: "UNAVAILABLE", Outcome.LEDGER_DOWN: "UNAVAILABLE",
    Outcome.DRAINING: "UNAVAILABLE", Outcome.DUPLICATE: "ALREADY_EXISTS", Outcome.INTERNAL: "INTERNAL",
}  # fmt: skip


def details(error: RequestError) -> tuple[error_details_pb2.ErrorInfo, list[str], float | None]:
    """ErrorInfo, the wrong fields, and the time to come back."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    fields: list[str] = []
    come_back: float | None = None
    for detail in rich_status(error).details:
        detail.Unpack(info)
        if detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
        if detail.Unpack(retry):
            come_back = retry.retry_delay.ToTimedelta().total_seconds()
    return info, fields, come_back


def test_the_contract_and_the_code_have_the_same_outcomes() -> None:
    names = {value.name.removeprefix("OUTCOME_"): value.number for value in outcome_pb2.Outcome.DESCRIPTOR.values}
    assert {outcome.name if outcome else "UNSPECIFIED": outcome.value for outcome in Outcome} == names


@pytest.mark.parametrize("outcome", ENDINGS)
def test_every_ending_has_the_code_of_the_contract(outcome: Outcome) -> None:
    assert CODES[outcome].name == CONTRACT[outcome]
    # The two whose words depend on the request are written where the request is known.
    assert (outcome in MESSAGES) == (outcome not in (Outcome.INVALID, Outcome.DUPLICATE))
    assert "\n" not in MESSAGES.get(outcome, "")


@pytest.mark.parametrize("outcome", ENDINGS)
@pytest.mark.parametrize("work_began", [False, True])
def test_every_error_carries_its_reason_and_whether_work_began(outcome: Outcome, work_began: bool) -> None:
    error = RequestError(outcome, "why", retry_after_us=1_234_567, request_id="request-1", work_began=work_began)
    status = rich_status(error)
    info, _, come_back = details(error)
    assert (status.message, status.code) == ("why", CODES[outcome].value[0])
    assert (info.reason, info.domain) == (outcome.name, DOMAIN)
    assert info.metadata["work_began"] == ("true" if work_began else "false")
    assert info.metadata["request_id"] == "request-1"
    assert info.metadata["outcome"] == outcome.name
    assert come_back == pytest.approx(1.234567)


@pytest.mark.parametrize("outcome", ENDINGS)
def test_the_sdk_understands_every_error(outcome: Outcome) -> None:
    error = RequestError(outcome, "why", retry_after_us=250_000, violations=(Violation("photo", "is bad"),))
    trailer = ((DETAILS_KEY, rich_status(error).SerializeToString()),)
    seen = sdk.error_of_status(CODES[outcome], "why", trailer)
    assert isinstance(seen, HomewardError)
    assert type(seen) is not HomewardError
    assert (seen.outcome.value, seen.retry_after_s, seen.work_began) == (outcome.name, 0.25, False)
    assert [violation.field for violation in seen.violations] == ["photo"]


def test_no_time_to_come_back_is_named_when_there_is_none() -> None:
    assert details(RequestError(Outcome.INVALID, "why"))[2] is None


def test_a_wrong_field() -> None:
    error = invalid("photo", "is empty: send one")
    info, fields, _ = details(error)
    assert (error.message, fields, info.reason) == ("photo: is empty: send one", ["photo"], "INVALID")
    finer = invalid("photo", "no", reason="PHOTO_EMPTY")
    assert details(finer)[0].reason == "PHOTO_EMPTY"
    trailer = ((DETAILS_KEY, rich_status(finer).SerializeToString()),)
    assert isinstance(sdk.error_of_status(grpc.StatusCode.INVALID_ARGUMENT, "", trailer), InvalidRequest)
