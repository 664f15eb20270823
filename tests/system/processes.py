"""What processes there are, asked in the way that Linux and macOS share."""

import os
import signal
import subprocess


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that ended but was not reaped does not."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return listed != "" and not listed.startswith("Z")


def alive_of(pids: set[int]) -> set[int]:
    """Those of `pids` that run."""
    return {pid for pid in pids if is_alive(pid)}


def descendants(root: int) -> set[int]:
    """Every process below `root`, itself not included."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        pid, parent = (int(word) for word in line.split())
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    left = [root]
    while left:
        below = children.get(left.pop(), [])
        found.update(below)
        left += below
    return found


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal."""
    os.kill(pid, number)
