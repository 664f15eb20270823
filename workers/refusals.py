"""How a worker says no: one closed list of reasons, each with its gRPC code, sent as `google.rpc.Status`.

Every refusal says whether work began (`metadata["work_began"]` of its ErrorInfo), because that decides whether trying again
elsewhere is free. PERMISSION_DENIED means that the caller holds no right at all (someone is wrong or hostile);
FAILED_PRECONDITION means that the right existed and does not hold here and now (ask for another grant).
"""

import asyncio
from enum import StrEnum
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as PackedMessage
from google.rpc import error_details_pb2, status_pb2

ERROR_DOMAIN = "homeward"
STATUS_DETAILS_KEY = "grpc-status-details-bin"

MESSAGE_CHARS_MAX = 500
"""Trailing metadata of a call is limited to 8 KiB by default; the message appears in it twice, percent-encoded once."""

ABORT_S_MAX = 1.0
"""A status waits behind data that the caller does not read. After this long nobody waits for it any more."""


class RefusalReason(StrEnum):
    """Why a worker did not run a job, or did not finish it. On the wire as ErrorInfo.reason."""

    GRANT_FORGED = "GRANT_FORGED"
    """The signature is wrong, or there is none, or the signed bytes are no claims."""
    GRANT_FOREIGN = "GRANT_FOREIGN"
    """The grant is for another region or worker, or for an earlier incarnation of this one."""
    GRANT_EXPIRED = "GRANT_EXPIRED"
    GRANT_STALE_EPOCH = "GRANT_STALE_EPOCH"
    """The ledger lost its memory after this grant was made."""
    GRANT_REPLAYED = "GRANT_REPLAYED"
    GRANT_OTHER_REQUEST = "GRANT_OTHER_REQUEST"
    """The grant is for a request with another content."""
    NO_FREE_SLOT = "NO_FREE_SLOT"
    VARIANT_NOT_LOADED = "VARIANT_NOT_LOADED"
    WORKER_NOT_ATTACHED = "WORKER_NOT_ATTACHED"
    """No router has given this worker a key yet, so it can verify nothing."""
    WORKER_DRAINING = "WORKER_DRAINING"
    WORKER_STOPPING = "WORKER_STOPPING"
    """The job was running and the worker stops: drain took too long, or was cut short."""
    INPUT_REJECTED = "INPUT_REJECTED"
    """The request itself is wrong; every worker would say so."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    MODEL_FAILED = "MODEL_FAILED"
    WORKER_DEFECT = "WORKER_DEFECT"
    """A bug in the worker."""


_FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
_CODES = {
    RefusalReason.GRANT_FORGED: grpc.StatusCode.PERMISSION_DENIED,
    RefusalReason.GRANT_FOREIGN: grpc.StatusCode.PERMISSION_DENIED,
    RefusalReason.GRANT_OTHER_REQUEST: grpc.StatusCode.PERMISSION_DENIED,
    RefusalReason.GRANT_EXPIRED: _FAILED_PRECONDITION,
    RefusalReason.GRANT_STALE_EPOCH: _FAILED_PRECONDITION,
    RefusalReason.GRANT_REPLAYED: _FAILED_PRECONDITION,
    RefusalReason.NO_FREE_SLOT: _FAILED_PRECONDITION,
    RefusalReason.VARIANT_NOT_LOADED: _FAILED_PRECONDITION,
    RefusalReason.WORKER_NOT_ATTACHED: _FAILED_PRECONDITION,
    RefusalReason.WORKER_DRAINING: _FAILED_PRECONDITION,
    RefusalReason.WORKER_STOPPING: grpc.StatusCode.UNAVAILABLE,
    RefusalReason.INPUT_REJECTED: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalReason.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    RefusalReason.MODEL_FAILED: grpc.StatusCode.INTERNAL,
    RefusalReason.WORKER_DEFECT: grpc.StatusCode.INTERNAL,
}


class Refusal(Exception):
    """A job that does not run, or does not go on. The message is for whoever called."""

    def __init__(
        self,
        reason: RefusalReason,
        message: str,
        *,
        work_began: bool = False,
        field: str | None = None,
        code: grpc.StatusCode | None = None,
    ) -> None:
        """`field` is the offending field of GenerateRequest; `code` replaces the reason's usual one."""
        super().__init__(message[:MESSAGE_CHARS_MAX])
        self.reason = reason
        self.message = message[:MESSAGE_CHARS_MAX]
        self.work_began = work_began
        self.field = field
        self.code = code or _CODES[reason]

    def status(self) -> Any:
        """Return the google.rpc.Status that says all of this."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(
            reason=self.reason.value,
            domain=ERROR_DOMAIN,
            metadata={"work_began": "true" if self.work_began else "false"},
        )
        details: list[Any] = [info]
        if self.field is not None:
            violation = error_details_pb2.BadRequest.FieldViolation(field=self.field, description=self.message)
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        for detail in details:
            packed = PackedMessage()
            packed.Pack(detail)
            status.details.append(packed)
        return status


async def abort_with(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> NoReturn:
    """End the call with the refusal's status, or without it if the caller does not read. Raises, as `context.abort` does."""
    details = ((STATUS_DETAILS_KEY, refusal.status().SerializeToString()),)
    try:
        async with asyncio.timeout(ABORT_S_MAX):
            await context.abort(refusal.code, refusal.message, details)
    except grpc.aio.AbortError:
        raise
    except (TimeoutError, grpc.aio.BaseError):
        pass  # the caller does not read, or is gone
    # The handler is over; gRPC keeps the stream until its data is read, its deadline passes or its connection ends.
    raise asyncio.CancelledError


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return ErrorInfo.reason of a failed call of ours, or an empty text when there is none."""
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                    return str(info.reason)
    return ""
