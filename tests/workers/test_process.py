"""The real process: its one line of output, its log, its exit codes, its signals."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from workers.identity import WorkerIdentity

if TYPE_CHECKING:
    from tests.workers.conftest import Rig

SCRIPT = Path(__file__).with_name("fake_worker.py")
LOG_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (DEBUG|INFO|WARNING|ERROR) worker=gpu-1 .+")
PATIENCE_S = 30.0


class Process:
    """A worker process attached to the rig's router."""

    def __init__(self, rig: "Rig", release: Path) -> None:
        self.rig = rig
        self.release = release
        self.child: Any = None
        self.ready: dict[str, Any] = {}
        self.address = ""

    async def start(self, *arguments: str, ready: bool = True, **environment: str) -> None:
        router = await self.rig.serve_fleet()
        usual = ("--region", "us-east", "--router", router, "--name", "gpu-1", "--model", "fake")
        self.child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            *usual,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"FAKE_RELEASE_FILE": str(self.release)} | environment,
        )
        if ready:
            async with asyncio.timeout(PATIENCE_S):
                self.ready = json.loads(await self.child.stdout.readline())
            # From here on the rig calls this process.
            self.rig.worker = self
            self.address = self.ready["address"]
            registered = self.rig.fleet.sessions[-1].messages[0].register
            self.rig.identity = WorkerIdentity("us-east", "gpu-1", registered.incarnation)

    async def job(self) -> tuple[Any, str]:
        return await self.rig.started(incarnation=self.rig.identity.incarnation)

    async def end(self) -> tuple[int, str, list[str]]:
        """Wait for the end: exit code, the rest of the output, the log's lines."""
        async with asyncio.timeout(PATIENCE_S):
            output, log = await self.child.communicate()
        return self.child.returncode, output.decode(), log.decode().splitlines()


@pytest.fixture
async def process(rig: "Rig", tmp_path: Path) -> AsyncIterator[Process]:
    made = Process(rig, tmp_path / "release")
    yield made
    if made.child is not None and made.child.returncode is None:
        made.child.kill()
        await made.child.communicate()


async def test_sigterm_finishes_the_job_and_exits_0(process: Process) -> None:
    await process.start("--slots", "2")
    assert process.ready == {
        "ready": True,
        "worker": "gpu-1",
        "address": process.address,
        "region": "us-east",
        "pid": process.child.pid,
    }
    rig = process.rig
    call, reservation = await process.job()
    process.child.send_signal(signal.SIGTERM)
    await rig.fleet.until(lambda: rig.fleet.sessions[0].of_kind("draining"))
    assert (await rig.fleet.heartbeat_after_now()).running_reservations == [reservation]
    process.release.touch()
    assert (await rig.rest(call))[-1].WhichOneof("event") == "result"
    code, output, log = await process.end()
    assert (code, output) == (0, "")
    assert rig.fleet.sessions[0].finished == [reservation]
    assert log
    assert [line for line in log if not LOG_LINE.fullmatch(line)] == []


async def test_a_second_signal_exits_1_at_once(process: Process) -> None:
    await process.start()
    rig = process.rig
    call, reservation = await process.job()
    process.child.send_signal(signal.SIGINT)
    await rig.fleet.until(lambda: rig.fleet.sessions[0].of_kind("draining"))
    process.child.send_signal(signal.SIGTERM)
    assert (await rig.refusal(call)).reason == "WORKER_STOPPING"
    code, output, log = await process.end()
    assert (code, output) == (1, "")
    assert rig.fleet.sessions[0].finished == [reservation]
    assert [line for line in log if not LOG_LINE.fullmatch(line)] == []


async def test_a_superseded_process_says_so_and_exits_1(process: Process) -> None:
    await process.start()
    process.rig.fleet.sessions[0].end(grpc.StatusCode.ABORTED, "SUPERSEDED")
    code, _, log = await process.end()
    assert code == 1
    assert sum("a newer worker has taken this name" in line for line in log) == 1
    assert [line for line in log if not LOG_LINE.fullmatch(line)] == []


async def test_a_killed_worker_ends_its_call_and_its_stream(process: Process) -> None:
    await process.start()
    call, _ = await process.job()
    process.child.kill()
    assert (await process.rig.refusal(call)).code is grpc.StatusCode.UNAVAILABLE
    await process.rig.fleet.until(lambda: process.rig.fleet.sessions[0].ended)


async def test_a_taken_port_is_one_line(process: Process) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        await process.start("--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--log-level", "error", ready=False)
        code, output, log = await process.end()
    assert (code, output, len(log)) == (1, "", 1)
    assert "cannot listen on 127.0.0.1:" in log[0]


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"FAKE_PACKAGE_MISSING": "1"}, "the package 'torch' is missing: pip install 'homeward[worker]'"),
        ({"FAKE_LOAD_FAILS": "1"}, "cannot load model 'fake': ValueError: weights are not what their digest says"),
    ],
)
async def test_a_model_that_cannot_be_loaded_is_one_line(process: Process, environment: dict[str, str], says: str) -> None:
    await process.start(ready=False, **environment)
    code, output, log = await process.end()
    assert (code, output, len(log)) == (1, "", 1)
    assert log[0].endswith(says)
    assert LOG_LINE.fullmatch(log[0])


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_bad_arguments_are_one_line_and_exit_2() -> None:
    done = python("-m", "workers", "--region", "us-east", "--router", "nonsense", "--name", "gpu-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "homeward worker: error: argument --router: 'nonsense' is not HOST:PORT\n"


def test_without_grpc_the_extra_is_named() -> None:
    code = "import sys; sys.modules['grpc'] = None; from workers.__main__ import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("--region", "r", "--router", "h:1", "--name", "n", "--model", "fake")
    code = f"from workers.model import LOADERS; LOADERS['fake'] = lambda threads: None; {code}"
    done = python("-c", code, *arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "pip install 'homeward[worker]'" in done.stderr


def test_the_runtime_alone_needs_neither_torch_nor_the_router() -> None:
    foreign = "sorted({'torch', 'numpy', 'PIL', 'router', 'simulator', 'redis'} & {m.split('.')[0] for m in sys.modules})"
    done = python("-c", f"import sys, workers.__main__, workers.lifecycle; print({foreign})")
    assert done.stdout == "[]\n", done.stderr
