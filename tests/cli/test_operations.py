"""`homeward regions`, `workers`, `explain`, and how a command finds its router."""

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.terminal import say_table
from localfleet.state import FleetFile, FleetState, RegionState, WorkerState
from tests.homeward.fake_router import FakeRouter, a_story

from .conftest import ENTRY, CommandLine


@contextmanager
def running_fleet(*routers: tuple[str, str]) -> Iterator[None]:
    """Pretend to be the supervisor of a fleet with these regions and routers."""
    file = FleetFile()
    regions = tuple(
        RegionState(name, target, "127.0.0.1:1", "redis://127.0.0.1:1/0", 1, (WorkerState(f"{name}-gpu-1", 1),))
        for name, target in routers
    )
    file.write(FleetState(os.getpid(), "/tmp/nowhere", regions))
    try:
        yield
    finally:
        file.close()


def test_regions(homeward: CommandLine, router: FakeRouter) -> None:
    ran = homeward("regions", "--router", router.target)
    assert ran.code == 0
    header, _, home, mars = ran.out.splitlines()
    assert header.split() == ["region", "ring", "rtt", "slots", "busy", "free", "offered", "load", "waiting", "age", "state"]
    assert home.split() == ["us-east", "0", "0", "ms", "2", "1", "1", "1", "50%", "3", "20", "ms", "usable"]
    assert "never [heard] of" in mars
    assert "\x1b" not in ran.out
    assert ran.err == "as seen from us-east\n"


def test_regions_json(homeward: CommandLine, router: FakeRouter) -> None:
    ran = homeward("regions", "--router", router.target, "--json")
    document = ran.document
    assert document["home_region"] == "us-east"
    home = document["regions"][0]
    expected = {"slots": 2, "busy": 1, "free": 1, "offered": 1, "load": 0.5, "waiting": 3, "snapshot_age_ms": 20}
    assert {key: home[key] for key in expected} == expected
    assert home["pools"][0]["models"] == ["animate"]
    assert ran.err.count("\n") == 0


def test_the_environment_names_a_router(homeward: CommandLine, router: FakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEWARD_ROUTER", router.target)
    assert homeward("regions").code == 0


def test_the_running_fleet_is_found(homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path) -> None:
    with FakeRouter(region="eu-west") as other, running_fleet(("us-east", router.target), ("eu-west", other.target)):
        assert homeward("regions", "--json").document["home_region"] == "us-east"
        assert homeward("regions", "--region", "eu-west", "--json").document["home_region"] == "eu-west"
        assert [one["region"] for one in homeward("workers", "--json").document["regions"]] == ["us-east", "eu-west"]
        assert homeward("generate", photo, "-o", tmp_path / "o.webp", "--region", "eu-west").code == 0
        assert other.requests[0].home_region == "eu-west"
        ran = homeward("generate", photo, "-o", tmp_path / "o.webp", "--region", "eu-wst")
        assert ran.code == 2
        assert ran.err == "homeward: unknown region 'eu-wst': did you mean eu-west? The regions are us-east, eu-west\n"


def test_without_a_fleet_one_line_says_what_to_do(homeward: CommandLine, photo: Path, tmp_path: Path) -> None:
    for arguments in (["regions"], ["workers"], ["explain", "request-1"], ["generate", photo, "-o", tmp_path / "o.webp"]):
        ran = homeward(*arguments)
        assert ran.code == 1
        assert ran.err == (
            "homeward: no local fleet is running: start one with `homeward up`, or name a router with --router HOST:PORT\n"
        )


def test_the_state_file_of_a_dead_fleet_is_ignored(homeward: CommandLine, router: FakeRouter, tmp_path: Path) -> None:
    with running_fleet(("us-east", router.target)):
        left = (tmp_path / "state" / "homeward" / "fleet.json").read_text()
    (tmp_path / "state" / "homeward" / "fleet.json").write_text(left)
    assert homeward("regions").code == 1


def test_workers_of_a_dead_router_are_missed_but_the_others_are_shown(homeward: CommandLine, router: FakeRouter) -> None:
    with running_fleet(("us-east", router.target), ("eu-west", "127.0.0.1:1")):
        ran = homeward("workers")
        assert ran.code == 0
        assert "us-east-gpu-1" in ran.out
        assert ran.err == "eu-west: no router answers at 127.0.0.1:1: Connection refused\n"
        assert homeward("workers", "--json").document["unreachable"][0]["region"] == "eu-west"


def test_a_router_of_another_region_was_asked_wrongly(homeward: CommandLine, router: FakeRouter) -> None:
    assert homeward("regions", "--router", router.target, "--region", "us-east").code == 0
    ran = homeward("regions", "--router", router.target, "--region", "eu-west")
    assert (ran.code, ran.out) == (2, "")
    assert "'eu-west'" in ran.err
    assert "'us-east'" in ran.err
    assert homeward("workers", "--router", router.target, "--region", "eu-west").code == 2
    assert homeward("regions", "--router", "").code == 2


def test_explain_asks_every_router(homeward: CommandLine, router: FakeRouter) -> None:
    with FakeRouter(region="eu-west") as other, running_fleet(("us-east", router.target), ("eu-west", other.target)):
        other.known["request-1"] = a_story("request-1")
        ran = homeward("explain", "request-1")
        document = homeward("explain", "request-1", "--json").document
        unknown = homeward("explain", "request-2")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 100
    for number in ("request-1", "HOME_FIRST", "RING_UNLOCKED", "refused (FULL)", "home load 100%", "share 25%", "draw 0.125"):
        assert number in ran.out
    assert "delay 1.5 s, snapshot 400 ms old" in " ".join(ran.out.split())
    assert document["outcome"] == "OK"
    assert document["decisions"][1]["refusal"] == "FULL"
    assert (unknown.code, unknown.err.count("\n")) == (1, 1)
    assert "request-2 (asked us-east, eu-west)" in unknown.err


def test_columns_do_not_cut_what_is_no_terminal(homeward: CommandLine, router: FakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = homeward("regions", "--router", router.target).out
    monkeypatch.setenv("COLUMNS", "40")
    assert homeward("regions", "--router", router.target).out == whole


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_a_terminal_never_cuts_a_name(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    row = ("ap-northeast", "ap-northeast-gpu-1", "never heard of", "12 min 59 s", "http://127.0.0.1:7423/metrics")
    say_table(
        ("region", "worker", "state", "lease left", "address"),
        [row],
        names=frozenset({"region", "worker"}),
        numbers=frozenset({"lease left"}),
        leave_out=("address", "lease left", "state"),
    )
    shown = capsys.readouterr()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.out).splitlines()
    assert max(map(len, lines)) <= max(width, 32)
    assert "…" not in shown.out
    assert any("ap-northeast  ap-northeast-gpu-1" in line for line in lines)
    left_out = {30: "address, lease left, state", 60: "address", 80: "address", 120: ""}[width]
    assert shown.err == (f"left out, for want of width: {left_out}\n" if left_out else "")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_only_on_a_terminal_that_wants_them(router: FakeRouter, no_color: str) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "NO_COLOR": no_color, "COLUMNS": "200"}
    arguments = [*ENTRY, "--help"]
    with subprocess.Popen(arguments, env=environment, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux says that nobody holds the other end any more
                break
            if not piece:
                break
            shown += piece
        assert process.wait() == 0
    os.close(ours)
    is_coloured = re.search(rb"\x1b\[[0-9;]*\b3[0-7]m", shown) is not None
    assert is_coloured == (no_color == "")
