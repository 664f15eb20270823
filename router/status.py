"""Outcomes as gRPC statuses: one place decides what a caller is told.

Every error carries google.rpc.Status with ErrorInfo{reason, domain "homeward"}; RetryInfo where coming back helps; BadRequest
where a field is wrong. UNAVAILABLE means "not now", and is the only code worth retrying; RESOURCE_EXHAUSTED is left to gRPC
itself and to quotas. Metadata `work_began` says whether a worker had started.
"""

import random
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from router.policy.vocabulary import Outcome

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

DOMAIN = "homeward"
DETAILS_KEY = "grpc-status-details-bin"
LEDGER_RETRY_US = 1_000_000
"""Come back after this long when a dead ledger kept an answer back: a ledger that is back is found within a quarter of it."""

CODES: dict[Outcome, grpc.StatusCode] = {
    Outcome.NO_CAPACITY: grpc.StatusCode.UNAVAILABLE,
    Outcome.DEADLINE_HOPELESS: grpc.StatusCode.DEADLINE_EXCEEDED,
    Outcome.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Outcome.CANCELLED: grpc.StatusCode.CANCELLED,
    Outcome.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Outcome.MODEL_UNAVAILABLE: grpc.StatusCode.FAILED_PRECONDITION,
    Outcome.RETRY_BUDGET_SPENT: grpc.StatusCode.UNAVAILABLE,
    Outcome.WAITING_FULL: grpc.StatusCode.UNAVAILABLE,
    Outcome.WORKER_FAILED: grpc.StatusCode.UNAVAILABLE,
    Outcome.LEDGER_DOWN: grpc.StatusCode.UNAVAILABLE,
    Outcome.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Outcome.DUPLICATE: grpc.StatusCode.ALREADY_EXISTS,
    Outcome.INTERNAL: grpc.StatusCode.INTERNAL,
}

MESSAGES: dict[Outcome, str] = {
    Outcome.NO_CAPACITY: "no region that may serve this request had a free slot",
    Outcome.DEADLINE_HOPELESS: "the time left cannot cover a run; refused at once",
    Outcome.DEADLINE_EXCEEDED: "the deadline passed",
    Outcome.CANCELLED: "the caller cancelled",
    Outcome.MODEL_UNAVAILABLE: "no live worker in reach serves this model",
    Outcome.RETRY_BUDGET_SPENT: "the region's retry budget is spent",
    Outcome.WAITING_FULL: "too many requests are waiting already",
    Outcome.WORKER_FAILED: "every attempt ended in a worker failure",
    Outcome.LEDGER_DOWN: "the region's slot ledger cannot be reached and no other region had room",
    Outcome.DRAINING: "this router is draining; use another",
    Outcome.INTERNAL: "a defect in the router; please report it with the request id",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that is wrong, and what would be right."""

    field: str
    description: str


@dataclass(slots=True)
class RequestError(Exception):
    """An expected bad ending, to be told to the caller by `abort`."""

    outcome: Outcome
    message: str
    retry_after_us: int = 0
    violations: tuple[Violation, ...] = ()
    reason: str = ""
    """ErrorInfo.reason; empty: the outcome's name."""
    request_id: str = ""
    work_began: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    code: grpc.StatusCode | None = None
    """Overrides the outcome's code."""


def invalid(name: str, description: str, reason: str = "") -> RequestError:
    """A request whose field `name` is wrong; `description` says what to do."""
    return RequestError(Outcome.INVALID, f"{name}: {description}", violations=(Violation(name, description),), reason=reason)


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def rich_status(error: RequestError) -> status_pb2.Status:
    """The whole story as google.rpc.Status."""
    code = error.code or CODES[error.outcome]
    info = error_details_pb2.ErrorInfo(
        reason=error.reason or error.outcome.name,
        domain=DOMAIN,
        metadata={
            "outcome": error.outcome.name,
            "request_id": error.request_id,
            "work_began": "true" if error.work_began else "false",
            **error.metadata,
        },
    )
    details = [_packed(info)]
    if error.retry_after_us > 0:
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(error.retry_after_us)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    if error.violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        details.append(_packed(error_details_pb2.BadRequest(field_violations=fields)))
    return status_pb2.Status(code=code_pb2.Code.Value(code.name), message=error.message, details=details)


def jittered(delay_us: int) -> int:
    """From half of `delay_us` up to it: gRPC callers wait exactly as told, so whoever tells many has to spread them."""
    return delay_us // 2 + random.randrange(delay_us // 2 + 1)


async def abort(context: Context, error: RequestError) -> None:
    """End the call with this error; never returns normally."""
    trailer = ((DETAILS_KEY, rich_status(error).SerializeToString()),)
    await context.abort(error.code or CODES[error.outcome], error.message, trailer)
