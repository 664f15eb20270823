"""One child process of the fleet: started, ready, watched, stopped.

A child says on standard output that it is ready, with one line of JSON: `{"ready": true, …}`. Everything else it writes, on
either stream, is its log, kept in a file of bounded size. It runs in a session of its own, so that Ctrl-C on the terminal
reaches the supervisor alone, which then stops the children in order.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

LOG_BYTES_MAX = 1024 * 1024
"""Of one log file. A full one is renamed to `.1`, so a child keeps at most twice this on disk."""
LINE_BYTES_MAX = 8 * 1024
TROUBLE_LINES_MAX = 20
"""How far back an error or a warning still explains an end; what is older was survived."""
LAST_LINE_LENGTH_MAX = 240  # what is shown has to stay one line
_READ_BYTES = 64 * 1024


class ChildDied(Exception):
    """A child ended before it was ready, or never became ready. One line."""

    def __init__(self, message: str, exit_code: int | None = None, last_words: str = "") -> None:
        """`exit_code` None: it still runs, and was too slow. `last_words`: what of its log explains it."""
        super().__init__(message)
        self.exit_code = exit_code
        self.last_words = last_words


class ChildLog:
    """What one child said: a bounded file, and its last lines."""

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        self.path = path
        self._last_lines: deque[str] = deque(maxlen=TROUBLE_LINES_MAX)
        self._bytes_max = bytes_max
        self._file = path.open("ab")

    @property
    def last_line(self) -> str:
        """The last line; empty when there was none."""
        return self._last_lines[-1] if self._last_lines else ""

    @property
    def last_words(self) -> str:
        """The line that tells most about an end: the last one, unless that is routine and trouble came before it."""
        if " INFO " in self.last_line or " DEBUG " in self.last_line:
            trouble = [line for line in self._last_lines if " ERROR " in line or " WARNING " in line]
            if trouble:
                return trouble[-1]
        return self.last_line

    def write(self, line: bytes, is_telling: bool = True) -> None:
        """Append one line without its line end. `is_telling`: it may be shown as one of the last lines."""
        if is_telling and line.strip():
            self._last_lines.append(line.decode(errors="replace").strip())
        if self._file.tell() + len(line) > self._bytes_max:
            self._file.close()
            self.path.replace(self.path.with_suffix(self.path.suffix + ".1"))
            self._file = self.path.open("wb")
        self._file.write(line + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Child:
    """A running process. Made by `start`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: ChildLog) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.name = name
        self.log = log
        self._process = process
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pumps = [
            asyncio.create_task(_pump(process.stdout, self._on_stdout)),
            asyncio.create_task(_pump(process.stderr, self.log.write)),
        ]

    @classmethod
    async def start(cls, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Self:
        """Start `command` with exactly `environment`; its log goes to `folder`/`name`.log."""
        log = ChildLog(folder / f"{name}.log")
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Process id, which is the id of its process group too."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, as far as was noticed."""
        return self._process.returncode is None

    async def wait_ready(self, timeout_s: float) -> dict[str, Any]:
        """Return what the ready line said. Raises `ChildDied` when the child ends first or takes longer."""
        ended = asyncio.create_task(self._process.wait())
        awaited: set[asyncio.Future[Any]] = {self._ready, ended}
        try:
            await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self._ready.done():
                return self._ready.result()
            if ended.done():
                raise ChildDied(await self.obituary(), self._process.returncode, self.log.last_words)
            raise ChildDied(f"{self.name} was not ready after {timeout_s:g} s; its last log line: {self._last_line()}")
        finally:
            ended.cancel()

    async def wait_ended(self) -> str:
        """Wait until it ends, and say so in one line."""
        await self._process.wait()
        return await self.obituary()

    async def obituary(self) -> str:
        """Say in one line how it ended. Reads its last words first."""
        await asyncio.wait(self._pumps, timeout=1.0)
        return f"{self.name} died ({_ending(self._process.returncode)}); its last log line: {self._last_line()}"

    async def stop(self, grace_s: float) -> bool:
        """End it: SIGTERM, and SIGKILL for the whole group after `grace_s`. Returns whether it went by itself."""
        by_itself = True
        if self.is_running:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), grace_s)
            except TimeoutError:
                by_itself = False
        # Also when it went by itself: what it may have started itself goes with it.
        self._signal(signal.SIGKILL)
        await self._process.wait()
        await asyncio.wait(self._pumps, timeout=1.0)
        for pump in self._pumps:
            pump.cancel()
        self.log.close()
        return by_itself

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _on_stdout(self, line: bytes) -> None:
        said: Any = None
        if not self._ready.done() and line.lstrip().startswith(b"{"):
            with contextlib.suppress(ValueError):
                said = json.loads(line)
        is_ready = isinstance(said, dict) and said.get("ready") is True
        self.log.write(line, is_telling=not is_ready)
        if is_ready:
            self._ready.set_result(said)

    def _last_line(self) -> str:
        line = self.log.last_words or "(it wrote nothing)"
        return line if len(line) <= LAST_LINE_LENGTH_MAX else line[:LAST_LINE_LENGTH_MAX] + "…"


async def _pump(stream: asyncio.StreamReader, on_line: Callable[[bytes], None]) -> None:
    """Hand over every line until the stream ends; longer ones than `LINE_BYTES_MAX` come in pieces."""
    rest = b""
    while chunk := await stream.read(_READ_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        for line in lines:
            for start in range(0, max(1, len(line)), LINE_BYTES_MAX):
                on_line(line[start : start + LINE_BYTES_MAX])
    if rest:
        on_line(rest)


def _ending(code: int | None) -> str:
    """Read an exit status as asyncio gives it: negative for a signal."""
    if code is None:
        return "still there"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
