"""The supervisor with children that only pretend: order, deaths, and that nothing outlives it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from localfleet import supervisor
from localfleet.plan import FleetPlan
from localfleet.state import FleetState, read_fleet
from localfleet.supervisor import Fleet, FleetFailed, FleetMisconfigured

from . import fake_fleet
from .fake_fleet import PATIENCE_S, FakePrograms, FakeStore, is_alive, wait_until


def a_plan(regions: int = 2, workers: int = 2) -> FleetPlan:
    return FleetPlan.make(port_base=None, regions=["here", "there", "yonder"][:regions], workers_per_region=workers)


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[FleetState]:
    try:
        yield await fleet.start()
    finally:
        await fleet.stop()


async def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_at, "it did not happen"
        await asyncio.sleep(0.02)


def pids_of(state: FleetState) -> list[int]:
    return [pid for region in state.regions for pid in [region.router_pid, *(worker.pid for worker in region.workers)]]


async def test_it_starts_everything_and_stops_it_in_order() -> None:
    journal: list[str] = []
    fleet = Fleet(a_plan(), lambda: FakeStore(on_stop=lambda: journal.append("store")), pytest.fail, FakePrograms())
    folder = fleet.folder

    def read_journal() -> None:
        if not any(entry == "worker" for entry in journal) and (folder / "journal").exists():
            journal[:0] = (folder / "journal").read_text().split()

    fleet._stores[0]._on_stop = lambda: (read_journal(), journal.append("store"))  # type: ignore[attr-defined]
    async with running(fleet) as state:
        assert [region.name for region in state.regions] == ["here", "there"]
        assert [worker.name for worker in state.regions[1].workers] == ["there-gpu-1", "there-gpu-2"]
        pids = pids_of(state)
        assert len(pids) == 6
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)
    assert [entry for entry in journal if entry != "store"] == ["worker"] * 4 + ["router"] * 2
    assert journal.count("store") == 2
    assert not folder.exists()


async def test_a_child_that_dies_at_the_start_ends_the_fleet_with_its_last_words() -> None:
    fleet = Fleet(a_plan(), FakeStore, lambda line: None, FakePrograms({"there-gpu-2": "dies"}))
    with pytest.raises(FleetFailed) as caught:
        async with running(fleet):
            pass
    assert str(caught.value).startswith(
        "there-gpu-2 died (exit code 1); its last log line: ModuleNotFoundError: these were my last words (logs in "
    )
    assert "first words" in (fleet.folder / "there-gpu-2.log").read_text()
    assert not any(child.is_running for child in fleet._children())


async def test_a_child_that_never_gets_ready_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "READY_TIMEOUT_S", 1.0)
    fleet = Fleet(a_plan(1, 1), FakeStore, lambda line: None, FakePrograms({"here-gpu-1": "silent"}))
    with pytest.raises(FleetFailed, match=r"here-gpu-1 was not ready after 1 s"):
        async with running(fleet):
            pass


async def test_a_dead_worker_is_reported_and_the_rest_goes_on() -> None:
    said: list[str] = []
    fleet = Fleet(a_plan(), FakeStore, said.append, FakePrograms())
    async with running(fleet) as state:
        victim = state.regions[0].workers[0]
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda: bool(said))
        assert said == [
            "here-gpu-1 died (killed by SIGKILL); its last log line: here-gpu-1 is here; "
            "here goes on with its other workers and its neighbours"
        ]
        others = [pid for pid in pids_of(state) if pid != victim.pid]
        assert all(is_alive(pid) for pid in others)
        serving = asyncio.create_task(fleet.serve())
        await asyncio.sleep(0)
        assert not serving.done()
        serving.cancel()
    assert len(said) == 1
    assert fleet.folder.exists(), "its log may still be wanted"


async def test_a_password_goes_to_the_router_and_nowhere_else() -> None:
    class LockedStore(FakeStore):
        @property
        def url(self) -> str:
            return super().url.replace("//", "//:secret@")

    fleet = Fleet(a_plan(1, 1), LockedStore, pytest.fail, FakePrograms())
    async with running(fleet) as state:
        assert state.regions[0].redis_url.startswith("redis://:***@127.0.0.1:")
        check_secrets(Path("/proc") / str(state.regions[0].router_pid))


def check_secrets(process: Path) -> None:
    """Where there is /proc: its environment has the password, its command line has not."""
    if (process / "environ").exists():
        assert b"REDIS_URL=redis://:secret@127.0.0.1:" in (process / "environ").read_bytes()
        assert b"secret@" not in (process / "cmdline").read_bytes()


async def test_the_fleet_ends_when_its_last_router_dies() -> None:
    said: list[str] = []
    fleet = Fleet(a_plan(workers=1), FakeStore, said.append, FakePrograms())
    async with running(fleet) as state:
        for region in state.regions:
            os.kill(region.router_pid, signal.SIGTERM)
        with pytest.raises(FleetFailed, match="every router is dead"):
            await asyncio.wait_for(fleet.serve(), PATIENCE_S)
    assert len(said) == 2
    assert "router-here died (exit code 0)" in "\n".join(said)
    assert "the other regions go on" in said[0]


async def test_a_dead_valkey_is_reported() -> None:
    said: list[str] = []
    stores: list[FakeStore] = []

    def make_store() -> FakeStore:
        stores.append(FakeStore())
        return stores[-1]

    fleet = Fleet(a_plan(), make_store, said.append, FakePrograms())
    async with running(fleet):
        await until(lambda: all(store._connections for store in stores))
        stores[1].die()
        await until(lambda: bool(said))
        assert said[0].startswith("the Valkey of there is gone")


async def test_a_child_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "WORKER_GRACE_S", 0.2)
    said: list[str] = []
    fleet = Fleet(a_plan(1, 1), FakeStore, said.append, FakePrograms({"here-gpu-1": "deaf"}))
    async with running(fleet) as state:
        pid = state.regions[0].workers[0].pid
    assert not is_alive(pid)
    assert said == ["here-gpu-1 did not stop within 0.2 s and was killed"]


async def test_a_policy_and_a_topology_are_handed_to_the_routers() -> None:
    plan = FleetPlan.make(port_base=None, workers_per_region=1, policy_toml="attempts_max = 2\n")
    fleet = Fleet(plan, FakeStore, pytest.fail, FakePrograms())
    async with running(fleet):
        assert (fleet.folder / "policy.toml").read_text() == "attempts_max = 2\n"
        assert "emulate_rtt = true" in (fleet.folder / "topology.toml").read_text()


async def test_a_policy_that_the_first_router_refuses_starts_nothing_else() -> None:
    plan = FleetPlan.make(port_base=None, policy_toml="attempts_mx = 2\n")
    fleet = Fleet(plan, FakeStore, pytest.fail, FakePrograms({plan.regions[0].name: "refuses"}))
    with pytest.raises(FleetMisconfigured) as caught:
        async with running(fleet):
            pass
    assert str(caught.value) == f"policy file {fleet.policy_path}: it is wrong"
    assert len(fleet._children()) == 1
    assert not fleet.folder.exists()


def start_supervisor(folder: Path) -> tuple[subprocess.Popen[bytes], FleetState]:
    """Start a supervisor of its own process; return when its fleet is up."""
    process = subprocess.Popen([sys.executable, "-m", fake_fleet.__name__, str(folder)], stderr=subprocess.PIPE)
    wait_until(lambda: process.poll() is not None or read_fleet(folder) is not None)
    state = read_fleet(folder)
    assert state is not None, process.communicate()
    return process, state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process, state = start_supervisor(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, b"stopping\n")
    assert not any(is_alive(pid) for pid in pids_of(state))
    assert not (tmp_path / "fleet.json").exists()
    assert read_fleet(tmp_path) is None


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    process, state = start_supervisor(tmp_path)
    pids = pids_of(state)
    assert all(is_alive(pid) for pid in pids)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    left = json.loads((tmp_path / "fleet.json").read_text())
    assert left["pid"] == process.pid
    assert read_fleet(tmp_path) is None, "the file of a dead fleet does not count"
    again, _ = start_supervisor(tmp_path)
    again.send_signal(signal.SIGINT)
    assert again.wait(PATIENCE_S) == 0
    assert again.stderr is not None
    again.stderr.close()
