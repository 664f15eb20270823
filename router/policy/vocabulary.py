"""The closed vocabularies of a decision: phases, events, commands, outcomes, reasons, refusals.

`Outcome`, `Reason` and `Refusal` carry the numbers of the enumerations in `proto/homeward/v1` (a test compares them), so a
decision can be put on the wire, on a metric label or into a simulator's table without translation. Values are appended,
never renumbered.
"""

from enum import IntEnum


class Phase(IntEnum):
    """Where one request stands."""

    NEW = 0
    RESERVING = 1
    BUDGETING = 2
    WAITING = 3
    STARTING = 4
    ENDED = 5


class EventKind(IntEnum):
    """What can happen to a request."""

    ARRIVED = 1
    GRANTED = 2
    REFUSED = 3
    FAILED = 4
    DONE = 5
    WOKEN = 6
    BUDGET_GRANTED = 7
    BUDGET_DENIED = 8
    CANCELLED = 9
    DEADLINE = 10


class CommandKind(IntEnum):
    """What the interpreter has to do next."""

    RESERVE = 1
    WAIT = 2
    DISPATCH = 3
    WITHDRAW_BUDGET = 4
    FINISH = 5
    SHED = 6


class Failure(IntEnum):
    """How a dispatched run can fail."""

    NONE = 0
    WORKER_LOST = 1
    """The worker died, hung up, or ran out of memory: another worker may do better."""
    WORKER_REFUSED = 2
    """The worker did not honour the grant (stale, full, draining): no work began."""
    INPUT_REJECTED = 3
    """The worker found the input unusable: every worker would."""


class Refusal(IntEnum):
    """Why a region gave no slot."""

    NONE = 0
    FULL = 1
    NOT_OFFERED = 2
    NO_WORKER = 3
    LEDGER_DOWN = 4
    DRAINING = 5
    UNREACHABLE = 6
    REBUILDING = 7


class Outcome(IntEnum):
    """How a request ends. Documented in outcome.proto."""

    NONE = 0
    OK = 1
    NO_CAPACITY = 2
    DEADLINE_HOPELESS = 3
    DEADLINE_EXCEEDED = 4
    CANCELLED = 5
    INVALID = 6
    MODEL_UNAVAILABLE = 7
    RETRY_BUDGET_SPENT = 8
    WAITING_FULL = 9
    WORKER_FAILED = 10
    LEDGER_DOWN = 11
    DRAINING = 12
    DUPLICATE = 13
    INTERNAL = 14


class Reason(IntEnum):
    """Why a decision was taken. Documented in outcome.proto."""

    NONE = 0
    HOME_FIRST = 1
    RING_UNLOCKED = 2
    HOME_FAILED = 3
    START_NOW = 4
    START_NOT_DRAWN = 5
    START_DELAYED = 6
    BACKOFF = 7
    SLOT_ETA = 8
    RETRY_NEEDS_BUDGET = 9
    WORKER_FAILED_RETRY = 10
    ATTEMPTS_SPENT = 11
    BUDGET_SPENT = 12
    WAITING_ROOM_FULL = 13
    DEADLINE_TOO_NEAR = 14
    DEADLINE_PASSED = 15
    CALLER_CANCELLED = 16
    INPUT_REJECTED = 17
    SUCCEEDED = 18
    MODEL_NOWHERE = 19
    LEDGERS_DOWN = 20
    WAIT_OVER = 21
    NEXT_REGION = 22
