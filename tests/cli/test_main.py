"""Exit codes, one line instead of a traceback, and what is missing."""

import importlib.util
import os
import shlex
import subprocess
import sys
from typing import Any

import pytest

from cli import main as entry
from tests.homeward.fake_router import FakeRouter

from .conftest import ENTRY, CommandLine


def test_version_and_help(homeward: CommandLine) -> None:
    assert homeward("--version").out.startswith("homeward ")
    bare, asked = homeward(), homeward("--help")
    assert (bare.code, asked.code) == (0, 0)
    for command in ("generate", "regions", "workers", "explain", "up", "demo", "router", "worker"):
        assert command in bare.out
        assert command in asked.out


def test_unknown_command(homeward: CommandLine) -> None:
    ran = homeward("genrate")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert homeward("genrate", "--json").document["error"]["exit_code"] == 2


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_a_missing_package_is_one_line(homeward: CommandLine, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    ran = homeward("regions")
    assert ran.code == 1
    assert ran.err == f"homeward: the command line needs {package}: pip install 'homeward[cli]'\n"


@pytest.mark.parametrize(("command", "module"), [("up", "redis"), ("demo", "torch"), ("router", "redis"), ("worker", "torch")])
def test_a_missing_extra_is_one_line(
    homeward: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str, module: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    ran = homeward(command)
    assert ran.code == 1
    assert f"{module} is not installed: pip install 'homeward[" in ran.err
    assert ran.err.count("\n") == 1


def test_a_defect_is_one_line_and_a_traceback_only_when_asked_for(
    homeward: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("cli.operations.choose_router", fail)
    ran = homeward("regions")
    assert ran.code == 1
    assert ran.err == "homeward: defect in homeward: ZeroDivisionError: two lines (HOMEWARD_DEBUG=1 shows where)\n"
    monkeypatch.setenv("HOMEWARD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        entry.run(["regions"])


def test_a_reader_that_goes_away(router: FakeRouter) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [*ENTRY, "regions", "--router", router.target], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [(">&-", 1, "homeward: standard output is closed, so nothing could be written to it\n"), ("2>&-", 0, ""), ("<&-", 0, None)],
)
def test_closed_streams(router: FakeRouter, closed: str, code: int, said: str | None) -> None:
    for arguments in (["regions", "--router", router.target], ["--help"], ["regions", "--json", "--router", router.target]):
        command = shlex.join([*ENTRY, *arguments]) + f" {closed}"
        process = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert process.returncode == code, process
        assert (process.stdout == "") == (code == 1)
        assert said is None or process.stderr == said


def test_processes_take_over(tmp_path: Any) -> None:
    """`homeward worker …` becomes `python -m workers …`, arguments and all."""
    process = subprocess.run(
        [*ENTRY, "worker", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "100"}
    )
    assert process.returncode == 0
    assert "--slots" in process.stdout


def test_completion_is_offered() -> None:
    environment = os.environ | {"_HOMEWARD_COMPLETE": "complete_bash", "COMP_WORDS": "homeward gen", "COMP_CWORD": "1"}
    process = subprocess.run(ENTRY, env=environment, capture_output=True, text=True, check=False)
    assert process.stdout.split() == ["generate"], process.stderr
    assert sys.executable
