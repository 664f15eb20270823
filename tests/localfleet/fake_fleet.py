"""A fleet of fake children. Also runs as a script, to be killed from outside: `fake_fleet.py FOLDER`."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from localfleet.plan import FleetPlan, RegionPlan
from localfleet.session import run_fleet
from localfleet.state import FleetFile, FleetState
from localfleet.supervisor import Fleet, FleetFailed

PATIENCE_S = 15.0
"""How long a test waits for what must happen. Only a failing test waits this long."""

CHILD = Path(__file__).with_name("fake_child.py")


class FakePrograms:
    """Children that are `fake_child.py`. `moods` is by name: of a region for its router, of a worker."""

    def __init__(self, moods: Mapping[str, str] | None = None) -> None:
        self._moods = moods or {}
        self._folder = Path()

    def router(self, region: RegionPlan, folder: Path) -> list[str]:
        self._folder = folder
        return self._command("router", region.router, folder, region.name)

    def worker(self, region: RegionPlan, name: str) -> list[str]:
        return self._command("worker", name, self._folder, name)

    def _command(self, role: str, what: str, folder: Path, name: str) -> list[str]:
        return [sys.executable, str(CHILD), role, what, str(folder), "--mood", self._moods.get(name, "")]


class FakeStore:
    """A listening socket that keeps its connections until it is stopped or killed."""

    pid = None

    def __init__(self, on_stop: Callable[[], None] = lambda: None) -> None:
        self._on_stop = on_stop
        self._server = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._has_started = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.getsockname()[1]}"

    def start(self) -> None:
        self._has_started = True
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._on_stop()
        self.die()

    def die(self) -> None:
        """End as a killed process does: every connection is closed."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connections.append(self._server.accept()[0])


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that ended but was not reaped by whoever inherited it does not."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return listed != "" and not listed.startswith("Z")


def wait_until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.02)


def main() -> None:
    """Run a fleet until a signal comes; the state file tells the test who is who."""
    file = FleetFile(Path(sys.argv[1]))
    fleet = Fleet(FleetPlan.make(port_base=None, regions=["here", "there"]), FakeStore, print_error, FakePrograms())

    async def while_up(state: FleetState) -> None:
        file.write(state)
        await fleet.serve()

    try:
        asyncio.run(run_fleet(fleet, while_up, lambda: print_error("stopping")))
    except FleetFailed as error:
        sys.exit(f"{error}")
    finally:
        file.close()


def print_error(line: str) -> None:
    os.write(2, f"{line}\n".encode())


if __name__ == "__main__":
    main()
