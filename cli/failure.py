"""A command that did not work: one line, an exit code, and what `--json` says about it."""

from typing import Any

from homeward import HomewardError, InvalidRequest

FAILED = 1
ASKED_WRONGLY = 2


class Failure(Exception):
    """Ends a command. `message` is one line; `facts` goes into the JSON document."""

    def __init__(
        self, message: str, *, exit_code: int = FAILED, kind: str = "Failure", facts: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.kind = kind
        self.facts = facts or {}

    def document(self) -> dict[str, Any]:
        """Return what `--json` shows."""
        return {"kind": self.kind, "message": self.message, "exit_code": self.exit_code, **self.facts}


def asked_wrongly(message: str) -> Failure:
    """Return the failure of a command that cannot work as it was given."""
    return Failure(message, exit_code=ASKED_WRONGLY, kind="Usage")


def failure_of(error: Failure | HomewardError) -> Failure:
    """Translate an error of the SDK. A request that is wrong in itself was asked wrongly.

    So is a request id that was used for other content. One that is running or has succeeded (`DuplicateRequest`) is not: the
    command is right, and failed.
    """
    if isinstance(error, Failure):
        return error
    is_wrong = isinstance(error, InvalidRequest)
    message = error.message
    if error.retry_after_s is not None:
        message += f" (try again in {error.retry_after_s:.1f} s)"
    facts = {
        "outcome": error.outcome.value,
        "reason": error.reason,
        "request_id": error.request_id,
        "retry_after_s": error.retry_after_s,
        "work_began": error.work_began,
        "violations": [{"field": violation.field, "description": violation.description} for violation in error.violations],
    }
    return Failure(message, exit_code=ASKED_WRONGLY if is_wrong else FAILED, kind=type(error).__name__, facts=facts)
