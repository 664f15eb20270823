"""`homeward up`: starts, stops, refuses a second one, and leaves nothing running."""

import json
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from localfleet.plan import METRICS_OFFSET, ROUTER_OFFSET
from localfleet.ports import PortTaken, check_free

from .command_line import CommandLine
from .patience import until
from .photos import photo
from .pictures import frames_of
from .processes import alive_of, descendants

REGIONS = ("us-east", "eu-west")
END_S_MAX = 30.0


@pytest.fixture
def alone(tmp_path: Path) -> CommandLine:
    """The command of a user who has no fleet yet."""
    return CommandLine(tmp_path / "state", tmp_path)


def free_base() -> int:
    """A port base whose ports are free. Below 32768, where no system takes ports for outgoing connections."""
    while True:
        base = random.randrange(20_000, 32_000, 50)
        try:
            check_free([(base + offset + index, "") for offset in (ROUTER_OFFSET, METRICS_OFFSET) for index in range(2)])
        except PortTaken:
            continue
        return base


def start_up(alone: CommandLine, base: int, *arguments: object) -> tuple["subprocess.Popen[str]", dict[str, Any]]:
    """Run `homeward up` until it says that it is up; return what it said."""
    process = alone.start(
        "up", "--json", "--port-base", base, "--regions", ",".join(REGIONS), "--workers-per-region", 1, *arguments
    )
    assert process.stdout is not None
    text = ""
    while not text.endswith("\n}\n"):
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait()}: {process.communicate()}"
        text += line
    return process, json.loads(text)


def end(process: "subprocess.Popen[str]", number: signal.Signals) -> str:
    """Send a signal, wait for an orderly end, check that nothing is left, and return what was said on the way."""
    pids = descendants(process.pid)
    assert len(pids) >= 2 * 3 + 1, "two of a router, a Valkey and a worker, and the guard"
    process.send_signal(number)
    out, err = process.communicate(timeout=END_S_MAX)
    assert (process.returncode, out) == (0, ""), err
    until(lambda: not alive_of(pids), "no process is left")
    return err


@pytest.mark.timeout(180)
def test_up_serves_stops_and_starts_again(alone: CommandLine, tmp_path: Path) -> None:
    base = free_base()
    began_s = time.monotonic()
    process, said = start_up(alone, base)
    try:
        took_s = time.monotonic() - began_s
        assert took_s < 60, f"it was up after {took_s:.1f} s"
        assert [region["router"] for region in said["regions"]] == [f"127.0.0.1:{base + 11}", f"127.0.0.1:{base + 12}"]
        source = tmp_path / "photo.jpg"
        source.write_bytes(photo())
        for region in REGIONS:
            out = tmp_path / f"{region}.webp"
            ran = alone("generate", source, "-o", out, "--region", region, "--json")
            assert ran.code == 0, ran.err
            assert (ran.document["home_region"], ran.document["served_region"]) == (region, region)
            assert len(frames_of(out.read_bytes())) > 1

        second = alone("up", "--port-base", free_base())
        assert (second.code, second.out) == (1, "")
        assert second.err == "homeward: a local fleet is already running: stop it first (Ctrl-C in its terminal)\n"

        stopped = end(process, signal.SIGINT)
        assert stopped.splitlines()[-1] == "stopped"
        assert "Traceback" not in stopped
        assert "killed" not in stopped.replace("(Ctrl-C again kills)", "")
    finally:
        process.kill()
        process.communicate()
    assert not (tmp_path / "state" / "homeward" / "fleet.json").exists()
    assert not list(tmp_path.glob("homeward-*")), "logs and topology of a fleet without deaths are removed"
    nobody = alone("regions")
    assert (nobody.code, nobody.err.count("\n")) == (1, 1)
    assert "no local fleet is running" in nobody.err

    process, _ = start_up(alone, base)
    try:
        seen = alone("regions", "--json").document["regions"]
        assert {region["region"]: (region["slots"], region["free"]) for region in seen} == {"us-east": (1, 1), "eu-west": (1, 1)}
        end(process, signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()


def test_a_taken_port_is_one_line(alone: CommandLine) -> None:
    base = free_base()
    with socket.create_server(("127.0.0.1", base + ROUTER_OFFSET)):
        ran = alone("up", "--port-base", base)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"homeward: port {base + ROUTER_OFFSET} is taken, the router of us-east needs it: "
        "choose others with --port-base (default 7400)\n"
    )


def test_ctrl_c_while_it_starts_leaves_nothing(alone: CommandLine) -> None:
    process = alone.start("up", "--port-base", free_base(), "--regions", "us-east", "--workers-per-region", 1)
    try:
        pids = until(lambda: found if len(found := descendants(process.pid)) >= 4 else set(), "its children start")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=END_S_MAX)
        assert (process.returncode, out) == (0, ""), err
        assert "Traceback" not in err
        until(lambda: not alive_of(pids), "no process is left")
    finally:
        process.kill()
        process.communicate()
