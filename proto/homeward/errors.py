"""Everything that can go wrong, as typed exceptions.

Rules:

* Every exception is a `HomewardError` and tells three things: what happened (`outcome`, a closed vocabulary), whether work
  began (`work_began`: False means that nothing ran, None that nobody can know), and when to come back (`retry_after_s`).
* The SDK never retries. Only the router does, because only it sees capacity and budget; a second layer of retries multiplies
  an overload. A gateway that wants to ask again keeps the request id: one id never has two successful generations.
* Statuses are translated here and nowhere else: `google.rpc.Status` from the trailing metadata, else the plain code.

| class | when | worth asking again |
|---|---|---|
| `InvalidRequest` | the request is wrong; `violations` names the fields | no, mend it first |
| `NoCapacity` | no free slot anywhere allowed, too many waiting, or the retry budget is spent | after `retry_after_s` |
| `DeadlineExceeded` | the time was too short, or ran out | with more time |
| `ModelUnavailable` | no live worker in reach serves the model | when a worker has it |
| `DuplicateRequest` | the same request is running or has already succeeded | no |
| `Cancelled` | the call was cancelled; its slot is free | as you like |
| `WorkerFailed` | every allowed attempt ended in a failing worker | yes |
| `RouterUnavailable` | no router answers, it is draining, or its ledger is down | at another router, or later |
| `NotFound` | the router has no record of the request (only `explain`) | at another router |
| `InternalError` | a defect in Homeward | report it |
"""

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from homeward.outcomes import Outcome

STATUS_DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "homeward"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request."""

    field: str
    """Name in `GenerateRequest`, for example "animate.motion"."""
    description: str
    """What is wrong and what to do."""


class HomewardError(Exception):
    """Base of every error of this SDK. `str(error)` is one readable line."""

    default_outcome = Outcome.UNSPECIFIED

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome | None = None,
        reason: str = "",
        request_id: str = "",
        retry_after_s: float | None = None,
        violations: tuple[Violation, ...] = (),
        work_began: bool | None = None,
        status_code: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = self.default_outcome if outcome is None else outcome
        self.reason = reason or self.outcome.value
        """As on the wire: the outcome's name, or a finer one such as a worker's reason for refusing a grant."""
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        """Come back after this long. None: the router did not say."""
        self.violations = violations
        self.work_began = work_began
        """Whether a worker began the job. None: nobody can know (the connection was lost)."""
        self.status_code = status_code
        """Name of the gRPC status code; empty when the SDK itself refused."""


class InvalidRequest(HomewardError):
    """The request itself is wrong. Raised by the SDK before it sends anything, or by the router."""

    default_outcome = Outcome.INVALID


class NoCapacity(HomewardError):
    """No slot now: NO_CAPACITY, WAITING_FULL or RETRY_BUDGET_SPENT. `retry_after_s` is truthful and already jittered."""

    default_outcome = Outcome.NO_CAPACITY


class DeadlineExceeded(HomewardError):
    """The time left could never cover a run (DEADLINE_HOPELESS), or it passed (DEADLINE_EXCEEDED)."""

    default_outcome = Outcome.DEADLINE_EXCEEDED


class ModelUnavailable(HomewardError):
    """No live worker in reach serves the model."""

    default_outcome = Outcome.MODEL_UNAVAILABLE


class DuplicateRequest(HomewardError):
    """The same request is running, or has already succeeded. Other content under its id is an `InvalidRequest`."""

    default_outcome = Outcome.DUPLICATE


class Cancelled(HomewardError):
    """The call was cancelled from elsewhere: its client was closed, before or during the call, or the router ended it."""

    default_outcome = Outcome.CANCELLED


class WorkerFailed(HomewardError):
    """Every allowed attempt ended in a worker failure."""

    default_outcome = Outcome.WORKER_FAILED


class RouterUnavailable(HomewardError):
    """The router cannot be reached, is draining, or has lost its slot ledger (see `outcome`)."""


class NotFound(HomewardError):
    """This router has no record of the request. Records are bounded, and each router has its own."""


class InternalError(HomewardError):
    """A defect in Homeward."""

    default_outcome = Outcome.INTERNAL


class OutputCorrupted(InternalError):
    """The output that arrived is not the output that the worker described (size or SHA-256)."""


_BY_OUTCOME: dict[Outcome, type[HomewardError]] = {
    Outcome.NO_CAPACITY: NoCapacity,
    Outcome.WAITING_FULL: NoCapacity,
    Outcome.RETRY_BUDGET_SPENT: NoCapacity,
    Outcome.DEADLINE_HOPELESS: DeadlineExceeded,
    Outcome.DEADLINE_EXCEEDED: DeadlineExceeded,
    Outcome.CANCELLED: Cancelled,
    Outcome.INVALID: InvalidRequest,
    Outcome.MODEL_UNAVAILABLE: ModelUnavailable,
    Outcome.DUPLICATE: DuplicateRequest,
    Outcome.WORKER_FAILED: WorkerFailed,
    Outcome.LEDGER_DOWN: RouterUnavailable,
    Outcome.DRAINING: RouterUnavailable,
    Outcome.INTERNAL: InternalError,
}

# For statuses without a known outcome: of gRPC itself, of something between us and the router, or of a newer router.
_BY_CODE: dict[str, type[HomewardError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "ALREADY_EXISTS": DuplicateRequest,
    "NOT_FOUND": NotFound,
    "UNAVAILABLE": RouterUnavailable,
    "UNIMPLEMENTED": RouterUnavailable,
    "INTERNAL": InternalError,
    "UNKNOWN": InternalError,
    "DATA_LOSS": InternalError,
}


def error_of_status(
    code: grpc.StatusCode | None,
    details: str | None,
    trailing_metadata: Iterable[tuple[str, str | bytes]] | None,
    *,
    request_id: str = "",
    target: str = "the router",
    work_began: bool | None = None,
) -> HomewardError:
    """Translate the status of a failed call.

    `work_began` is what the caller saw itself; a router's own word overrides it. `target` is for the message.
    """
    code_name = code.name if code is not None else "UNKNOWN"
    rich = _read_details(trailing_metadata)
    if rich is None or rich.reason == "":
        return _error_of_code(code_name, details or "", request_id, target, work_began)
    outcome = Outcome.of_name(rich.reason)
    kind = _BY_OUTCOME.get(outcome) or _BY_CODE.get(code_name, HomewardError)
    return kind(
        rich.message or details or f"the router answered {rich.reason}",
        outcome=outcome if outcome is not Outcome.UNSPECIFIED else None,
        reason=rich.reason,
        request_id=rich.metadata.get("request_id") or request_id,
        retry_after_s=rich.retry_after_s,
        violations=rich.violations,
        work_began={"true": True, "false": False}.get(rich.metadata.get("work_began", ""), work_began),
        status_code=code_name,
    )


@dataclass(frozen=True, slots=True)
class _Details:
    """What a `google.rpc.Status` of a router says."""

    message: str
    reason: str
    metadata: dict[str, str]
    retry_after_s: float | None
    violations: tuple[Violation, ...]


def _read_details(trailing_metadata: Iterable[tuple[str, str | bytes]] | None) -> _Details | None:
    """Read the rich status; None when there is none or when it cannot be read."""
    packed = next((value for key, value in trailing_metadata or () if key == STATUS_DETAILS_KEY), None)
    if not isinstance(packed, bytes):
        return None
    status = status_pb2.Status()
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    retry_after_s = None
    try:
        status.ParseFromString(packed)
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(bad)
            if detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    except (DecodeError, ValueError):
        return None
    return _Details(
        message=status.message,
        reason=info.reason if info.domain == ERROR_DOMAIN else "",
        metadata=dict(info.metadata),
        retry_after_s=retry_after_s,
        violations=tuple(Violation(v.field, v.description) for v in bad.field_violations),
    )


def _error_of_code(
    code_name: str, details: str, request_id: str, target: str, work_began: bool | None
) -> HomewardError:
    """Translate a status that no Homeward router made."""
    if code_name == "UNAVAILABLE":
        signs = ("failed to connect", "resolution failed", "errors resolving")
        never_connected = any(sign in details.lower() for sign in signs)
        # gRPC's own text names every address it tried; its last clause is the cause.
        cause = details.rsplit(": ", 1)[-1].strip(" ]") or "no answer"
        message = f"no router answers at {target}: {cause}" if never_connected else f"lost the router at {target}: {cause}"
        work_began = False if never_connected else work_began
    elif code_name == "UNIMPLEMENTED":
        message, work_began = f"{target} answers, but it is no Homeward router of this version", False
    elif code_name == "DEADLINE_EXCEEDED":
        message = f"the deadline passed before {target} answered"
    else:
        message = f"{target} answered {code_name}: {details or 'no details'}"
    kind = _BY_CODE.get(code_name, HomewardError)
    return kind(message, request_id=request_id, work_began=work_began, status_code=code_name)
