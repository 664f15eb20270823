"""How a request can end: `Outcome`, the closed vocabulary of `homeward/v1/outcome.proto` as strings.

The values are the names on the wire without their prefix, so `Outcome("NO_CAPACITY")` reads an `ErrorInfo.reason` and
`outcome.value` writes a log line. A test compares them with the contract.
"""

from enum import StrEnum

from homeward.v1 import outcome_pb2


class Outcome(StrEnum):
    """How one request ended."""

    UNSPECIFIED = "UNSPECIFIED"
    """Not known: it still runs, the answer came from something else than a router, or the router is newer than this SDK."""
    OK = "OK"
    NO_CAPACITY = "NO_CAPACITY"
    DEADLINE_HOPELESS = "DEADLINE_HOPELESS"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    INVALID = "INVALID"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    RETRY_BUDGET_SPENT = "RETRY_BUDGET_SPENT"
    WAITING_FULL = "WAITING_FULL"
    WORKER_FAILED = "WORKER_FAILED"
    LEDGER_DOWN = "LEDGER_DOWN"
    DRAINING = "DRAINING"
    DUPLICATE = "DUPLICATE"
    INTERNAL = "INTERNAL"

    @classmethod
    def of_name(cls, name: str) -> "Outcome":
        """Read a name with or without the prefix `OUTCOME_`; a name this SDK does not know is `UNSPECIFIED`."""
        try:
            return cls(name.removeprefix("OUTCOME_"))
        except ValueError:
            return cls.UNSPECIFIED

    @classmethod
    def of_number(cls, number: int) -> "Outcome":
        """Read a number of the contract's enumeration."""
        return cls.of_name(wire_name(outcome_pb2.Outcome, number, "OUTCOME_"))


def wire_name(enumeration: object, number: int, prefix: str) -> str:
    """Return the name of `number` without `prefix`, or the number itself when this SDK is older than the router."""
    values = enumeration.DESCRIPTOR.values_by_number  # type: ignore[attr-defined]
    return values[number].name.removeprefix(prefix) if number in values else str(number)
