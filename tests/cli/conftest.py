"""A command line to call, in this process or in one of its own, with no fleet of the user's in reach."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from tests.homeward.fake_router import FakeRouter

ENTRY = (sys.executable, "-c", "from cli.main import main; main()")


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Runs `homeward`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        """Run in this process."""
        code = run([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Start a process of its own."""
        return subprocess.Popen(
            [*ENTRY, *(str(argument) for argument in arguments)],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def homeward(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture(autouse=True)
def _nobody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's own fleet and settings out of the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("HOMEWARD_ROUTER", "HOMEWARD_DEBUG", "NO_COLOR", "REDIS_URL", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def router() -> Iterator[FakeRouter]:
    with FakeRouter() as running:
        yield running


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"a photo, as far as this side can tell")
    return path
