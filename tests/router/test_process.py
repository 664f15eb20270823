"""`python -m router` as a process: exit codes, one line for what is wrong, and never a traceback."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from homeward import AsyncClient, HomewardError
from localfleet.valkey import EmbeddedValkey
from tests.router.fake_worker import FakeWorker
from tests.router.stand import eventually, free_ports, fresh_region

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "HOMEWARD_REGION_SECRET")}


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=ENVIRONMENT
    )  # fmt: skip


async def ended(*arguments: str) -> tuple[int, list[str]]:
    """Run to the end: exit code, and the lines that were said on stderr."""
    process = await start(*arguments)
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert out == b""
    assert b"Traceback" not in err
    assert process.returncode is not None
    return process.returncode, err.decode().strip().splitlines()


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """A router that is ready; killed at the end if it still runs."""
    process = await start(*arguments)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        assert line, "it ended instead of being ready"
        yield process, json.loads(line)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def stopped(process: asyncio.subprocess.Process, within_s: float) -> tuple[int, str]:
    """Wait for the end: exit code and stderr."""
    async with asyncio.timeout(within_s):
        _, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    assert b"never retrieved" not in err
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--region", "us-east"], "no slot ledger"),
        (["--region", "US", "--redis-url", "redis://127.0.0.1:1"], "region name 'US'"),
        (["--region", "us-east", "--redis-url", "redis://127.0.0.1:1/0?socket_timeout=x"], "options after"),
        (["--region", "us-east", "--redis-url", "redis://127.0.0.1:1", "--listen", "nowhere"], "--listen must be host:port"),
    ],
)  # fmt: skip
async def test_started_wrongly(arguments: list[str], says: str) -> None:
    code, lines = await ended(*arguments)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("homeward router: ")
    assert says in lines[0]


@pytest.mark.parametrize("arguments", [[], ["--region"], ["--bogus"], ["--region", "us-east", "--drain-s", "soon"]])
async def test_arguments_that_are_none(arguments: list[str]) -> None:
    code, lines = await ended(*arguments)
    assert code == 2
    assert lines[-1].startswith("homeward router: error: "), "the usage, then one line"


async def test_no_redis() -> None:
    code, lines = await ended("--region", "us-east", "--redis-url", f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    assert (code, len(lines)) == (1, 1)
    assert "slot ledger cannot be used" in lines[0]


@pytest.mark.parametrize(
    ("path", "why"), [("127.0.0.1:{port}/99", "DB index is out of range"), ("nobody:wrong@127.0.0.1:{port}/0", "WRONGPASS|invalid")]
)  # fmt: skip
async def test_a_redis_that_refuses_us(valkey: EmbeddedValkey, path: str, why: str) -> None:
    code, lines = await ended("--region", "us-east", "--redis-url", f"redis://{path.format(port=valkey.port)}")
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith("homeward router: the slot ledger cannot be used")
    assert re.search(why, lines[0]), lines[0]


async def test_a_taken_port(valkey: EmbeddedValkey) -> None:
    code, lines = await ended(
        "--region", fresh_region(), "--redis-url", valkey.url, "--listen", f"127.0.0.1:{valkey.port}", "--log-level", "error"
    )
    assert code == 1
    ours = [line for line in lines if line.startswith("homeward router: ")]
    assert len(ours) == 1
    assert f"cannot listen on 127.0.0.1:{valkey.port}" in ours[0]


async def test_a_taken_metrics_port(valkey: EmbeddedValkey) -> None:
    code, lines = await ended(
        "--region", fresh_region(), "--redis-url", valkey.url, "--listen", "127.0.0.1:0", "--metrics-listen",
        f"127.0.0.1:{valkey.port}", "--log-level", "error",
    )  # fmt: skip
    assert code == 1
    assert any("cannot serve metrics" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_cleanly(valkey: EmbeddedValkey, number: signal.Signals) -> None:
    region = fresh_region()
    async with running("--region", region, "--redis-url", valkey.url, "--listen", "127.0.0.1:0") as (process, ready):
        assert (ready["ready"], ready["region"], ready["pid"]) == (True, region, process.pid)
        async with AsyncClient(ready["address"]) as client:
            assert (await client.regions()).home_region == region
        process.send_signal(number)
        assert (await stopped(process, 20))[0] == 0


async def test_a_signal_lets_the_running_request_finish(valkey: EmbeddedValkey, photo: bytes) -> None:
    region = fresh_region()
    arguments = ["--region", region, "--redis-url", valkey.url, "--listen", "127.0.0.1:0"]
    async with running(*arguments) as (process, ready), FakeWorker(ready["address"], region) as worker:
        worker.hold()
        async with AsyncClient(ready["address"]) as client:
            request = asyncio.create_task(client.run(photo=photo))
            await worker.until(lambda each: len(each.running) == 1, "the job starts")
            process.send_signal(signal.SIGTERM)

            async def refuses() -> bool:
                with contextlib.suppress(HomewardError):
                    await client.run(photo=photo)
                    return False
                return True

            await eventually(refuses, "new requests are refused")
            worker.go()
            assert (await request).worker == "gpu-1"
            assert (await stopped(process, 20))[0] == 0


async def test_two_signals_do_not_wait(valkey: EmbeddedValkey, photo: bytes) -> None:
    region = fresh_region()
    arguments = ["--region", region, "--redis-url", valkey.url, "--listen", "127.0.0.1:0"]
    async with running(*arguments) as (process, ready), FakeWorker(ready["address"], region) as worker:
        worker.hold()
        async with AsyncClient(ready["address"]) as client:
            request = asyncio.create_task(client.run(photo=photo, timeout_s=300))
            await worker.until(lambda each: len(each.running) == 1, "the job starts")
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            assert (await stopped(process, 15))[0] == 1
            with pytest.raises(HomewardError):
                await request
            await eventually(lambda: not worker.running, "the worker hears of it")


async def test_it_serves_as_its_topology_says(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    names = sorted([fresh_region("a"), fresh_region("b")])
    port = free_ports(1)[0]
    text = "".join(f'[[regions]]\nname = "{name}"\nrouter = "127.0.0.1:{port}"\n' for name in names)
    (tmp_path / "topology.toml").write_text(text + "[network]\nrings = [[0, 1], [1, 0]]\nrtt_ms = [[0, 5], [5, 0]]\n")
    (tmp_path / "policy.toml").write_text("attempts_max = 2\n")
    arguments = [
        "--region", names[0], "--redis-url", valkey.url, "--listen", "127.0.0.1:0", "--topology", str(tmp_path / "topology.toml"),
        "--policy", str(tmp_path / "policy.toml"), "--seed", "7",
    ]  # fmt: skip
    async with running(*arguments) as (process, ready), AsyncClient(ready["address"]) as client:
        home, other = (await client.regions()).regions
        assert (home.region, other.region, other.ring, other.rtt_ms) == (names[0], names[1], 1, 5.0)
        assert not other.usable
        process.send_signal(signal.SIGTERM)
        assert (await stopped(process, 20))[0] == 0
