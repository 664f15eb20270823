"""Ends the fleet's processes when the supervisor is gone without having said goodbye.

A supervisor that is killed with SIGKILL cannot stop its children, and they are in sessions of their own, so that Ctrl-C
reaches the supervisor alone. The guard holds the reading end of a pipe from the supervisor: it is told of every process that
starts and ends, and when the pipe closes, which the kernel does however the supervisor died, it ends those that are left.
Works wherever pipes do (PR_SET_PDEATHSIG is Linux only, and needs a wrapper for every child).

Runs as a script of the standard library alone: `python -I -S guard.py`. Lines on standard input:

    +group 123      process group 123 started
    +process 124    process 124 started
    -124            it ended
"""

import contextlib
import os
import signal
import sys
import time

GRACE_S = 3.0  # between SIGTERM and SIGKILL; nobody is left to whom a drained job could matter
POLL_S = 0.05


def main() -> None:
    """Read until the pipe closes, then end what is left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # it goes when its supervisor goes, never before
    groups: dict[int, bool] = {}
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word in ("+group", "+process"):
            groups[int(number)] = word == "+group"
        elif word.startswith("-"):
            groups.pop(int(word[1:]), None)
    _signal_all(groups, signal.SIGTERM)
    give_up_at = time.monotonic() + GRACE_S
    while groups and time.monotonic() < give_up_at:
        time.sleep(POLL_S)
        _signal_all(groups, 0)
    _signal_all(groups, signal.SIGKILL)


def _signal_all(groups: dict[int, bool], number: int) -> None:
    """Send to every process or group; forget those that are gone."""
    for pid, is_group in list(groups.items()):
        try:
            (os.killpg if is_group else os.kill)(pid, number)
        except ProcessLookupError:
            del groups[pid]
        except PermissionError:
            # macOS answers so for a group of which only zombies are left.
            with contextlib.suppress(KeyError):
                del groups[pid]


if __name__ == "__main__":
    main()
