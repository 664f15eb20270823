"""Who a worker is: its name in its region, and which run of it.

An **incarnation** is one process under a worker's name. It is chosen at process start and never reused, so a grant that was
signed for a process that died cannot run on the one that replaced it. Incarnations of one name sort by start time as text
(16 digits of microseconds last until the year 2286); the random end keeps two processes of the same microsecond apart.
"""

import re
import secrets
import time
from dataclasses import dataclass

NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Names of workers and regions. They appear in keys of the ledger, in logs and in metric labels: nothing to escape."""

INCARNATION_RANDOM_BYTES = 4


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """One incarnation of one worker of one region."""

    region: str
    worker: str
    incarnation: str


def new_incarnation() -> str:
    """Return the incarnation of a process that starts now: microseconds since the Unix epoch, then random hex."""
    return f"{unix_us():016d}-{secrets.token_hex(INCARNATION_RANDOM_BYTES)}"


def unix_us() -> int:
    """Return the wall clock in microseconds since the Unix epoch: for grants, whose instants come from another machine."""
    return time.time_ns() // 1_000
