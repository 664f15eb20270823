from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_OK: _ClassVar[Outcome]
    OUTCOME_NO_CAPACITY: _ClassVar[Outcome]
    OUTCOME_DEADLINE_HOPELESS: _ClassVar[Outcome]
    OUTCOME_DEADLINE_EXCEEDED: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]
    OUTCOME_INVALID: _ClassVar[Outcome]
    OUTCOME_MODEL_UNAVAILABLE: _ClassVar[Outcome]
    OUTCOME_RETRY_BUDGET_SPENT: _ClassVar[Outcome]
    OUTCOME_WAITING_FULL: _ClassVar[Outcome]
    OUTCOME_WORKER_FAILED: _ClassVar[Outcome]
    OUTCOME_LEDGER_DOWN: _ClassVar[Outcome]
    OUTCOME_DRAINING: _ClassVar[Outcome]
    OUTCOME_DUPLICATE: _ClassVar[Outcome]
    OUTCOME_INTERNAL: _ClassVar[Outcome]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_HOME_FIRST: _ClassVar[Reason]
    REASON_RING_UNLOCKED: _ClassVar[Reason]
    REASON_HOME_FAILED: _ClassVar[Reason]
    REASON_START_NOW: _ClassVar[Reason]
    REASON_START_NOT_DRAWN: _ClassVar[Reason]
    REASON_START_DELAYED: _ClassVar[Reason]
    REASON_BACKOFF: _ClassVar[Reason]
    REASON_SLOT_ETA: _ClassVar[Reason]
    REASON_RETRY_NEEDS_BUDGET: _ClassVar[Reason]
    REASON_WORKER_FAILED_RETRY: _ClassVar[Reason]
    REASON_ATTEMPTS_SPENT: _ClassVar[Reason]
    REASON_BUDGET_SPENT: _ClassVar[Reason]
    REASON_WAITING_ROOM_FULL: _ClassVar[Reason]
    REASON_DEADLINE_TOO_NEAR: _ClassVar[Reason]
    REASON_DEADLINE_PASSED: _ClassVar[Reason]
    REASON_CALLER_CANCELLED: _ClassVar[Reason]
    REASON_INPUT_REJECTED: _ClassVar[Reason]
    REASON_SUCCEEDED: _ClassVar[Reason]
    REASON_MODEL_NOWHERE: _ClassVar[Reason]
    REASON_LEDGERS_DOWN: _ClassVar[Reason]
    REASON_WAIT_OVER: _ClassVar[Reason]
    REASON_NEXT_REGION: _ClassVar[Reason]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_OK: Outcome
OUTCOME_NO_CAPACITY: Outcome
OUTCOME_DEADLINE_HOPELESS: Outcome
OUTCOME_DEADLINE_EXCEEDED: Outcome
OUTCOME_CANCELLED: Outcome
OUTCOME_INVALID: Outcome
OUTCOME_MODEL_UNAVAILABLE: Outcome
OUTCOME_RETRY_BUDGET_SPENT: Outcome
OUTCOME_WAITING_FULL: Outcome
OUTCOME_WORKER_FAILED: Outcome
OUTCOME_LEDGER_DOWN: Outcome
OUTCOME_DRAINING: Outcome
OUTCOME_DUPLICATE: Outcome
OUTCOME_INTERNAL: Outcome
REASON_UNSPECIFIED: Reason
REASON_HOME_FIRST: Reason
REASON_RING_UNLOCKED: Reason
REASON_HOME_FAILED: Reason
REASON_START_NOW: Reason
REASON_START_NOT_DRAWN: Reason
REASON_START_DELAYED: Reason
REASON_BACKOFF: Reason
REASON_SLOT_ETA: Reason
REASON_RETRY_NEEDS_BUDGET: Reason
REASON_WORKER_FAILED_RETRY: Reason
REASON_ATTEMPTS_SPENT: Reason
REASON_BUDGET_SPENT: Reason
REASON_WAITING_ROOM_FULL: Reason
REASON_DEADLINE_TOO_NEAR: Reason
REASON_DEADLINE_PASSED: Reason
REASON_CALLER_CANCELLED: Reason
REASON_INPUT_REJECTED: Reason
REASON_SUCCEEDED: Reason
REASON_MODEL_NOWHERE: Reason
REASON_LEDGERS_DOWN: Reason
REASON_WAIT_OVER: Reason
REASON_NEXT_REGION: Reason
