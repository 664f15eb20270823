"""The file by which `homeward generate` and the other commands find the running local fleet.

`${XDG_STATE_HOME:-~/.local/state}/homeward/fleet.json` is written whole (a temporary file, then a rename) once the fleet is
ready, for the eyes of its user alone, and removed when it stops. Whether it still holds is not read from a process id, which
another process may have got since: the supervisor holds a lock on `fleet.lock` as long as it lives, and the kernel lets go of
it however it dies.
"""

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

STATE_VERSION = 1
_LOCK_TRIES = 20
_LOCK_RETRY_S = 0.01  # a reader holds the lock for an instant; a supervisor for its life


class FleetRunning(Exception):
    """Another supervisor holds the lock."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker process."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class RegionState:
    """One region of the running fleet."""

    name: str
    router: str
    """host:port of the router's gRPC services."""
    metrics: str
    """host:port of the router's Prometheus metrics."""
    redis_url: str
    """Of the slot ledger, with its password masked: what is written here is shown."""
    router_pid: int
    workers: tuple[WorkerState, ...]
    valkey_pid: int | None = None
    """None when the region uses a server that the fleet did not start."""


@dataclass(frozen=True, slots=True)
class FleetState:
    """The running fleet."""

    pid: int
    """Of the supervisor."""
    folder: str
    """Where topology and logs are."""
    regions: tuple[RegionState, ...]
    version: int = STATE_VERSION

    def region(self, name: str) -> RegionState | None:
        """Return the region of that name."""
        return next((region for region in self.regions if region.name == name), None)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Read what `asdict` gave. Raises KeyError, TypeError or ValueError when it is something else."""
        if document["version"] != STATE_VERSION:
            raise ValueError(f"state file of version {document['version']}")
        regions = tuple(
            RegionState(**{**region, "workers": tuple(WorkerState(**worker) for worker in region["workers"])})
            for region in document["regions"]
        )
        return cls(pid=document["pid"], folder=document["folder"], regions=regions)


def state_folder() -> Path:
    """Return the folder of the state file; it may not exist."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "homeward"


class FleetFile:
    """The state file in the hands of the supervisor. Holds the lock from construction until `close`."""

    def __init__(self, folder: Path | None = None) -> None:
        """Take the lock. Raises `FleetRunning`, or OSError when the folder cannot be written."""
        self._folder = folder or state_folder()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / "fleet.json"
        self._lock = os.open(self._folder / "fleet.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for attempt in range(_LOCK_TRIES):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == _LOCK_TRIES - 1:
                    os.close(self._lock)
                    raise FleetRunning from None
                time.sleep(_LOCK_RETRY_S)
        self._path.unlink(missing_ok=True)  # left by a supervisor that was killed

    def write(self, state: FleetState) -> None:
        """Publish the state, whole or not at all."""
        temporary = self._folder / f".fleet.json.{os.getpid()}"
        temporary.unlink(missing_ok=True)  # left by a supervisor of this process id; its permissions are its own
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(state), indent=2) + "\n")
        temporary.replace(self._path)

    def close(self) -> None:
        """Remove the file and let go of the lock."""
        self._path.unlink(missing_ok=True)
        os.close(self._lock)


def read_fleet(folder: Path | None = None) -> FleetState | None:
    """Return the running fleet's state; None when none is running, or is not ready yet."""
    folder = folder or state_folder()
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
        if _is_locked(folder / "fleet.lock"):
            return FleetState.of(json.loads((folder / "fleet.json").read_text()))
    return None


def _is_locked(path: Path) -> bool:
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
