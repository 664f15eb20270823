"""Topology, ports, command lines, and the state file."""

import os
import socket
import stat
import tomllib
from pathlib import Path

import pytest

from localfleet.plan import FleetPlan, HomewardPrograms, router_environment, worker_environment
from localfleet.ports import PortTaken, check_free, free_ports
from localfleet.state import FleetFile, FleetRunning, FleetState, RegionState, WorkerState, read_fleet, state_folder
from localfleet.stores import database_url, mask_password
from localfleet.topology import TopologyError, plan_topology


def test_the_default_topology_is_the_documented_one() -> None:
    plan = FleetPlan.make(port_base=None)
    document = tomllib.loads(plan.topology.to_toml())
    assert [region["name"] for region in document["regions"]] == ["us-east", "eu-west", "ap-northeast"]
    assert [region["router"] for region in document["regions"]] == [region.router for region in plan.regions]
    assert document["network"] == {
        "rings": [[0, 1, 2], [1, 0, 2], [1, 2, 0]],
        "rtt_ms": [[0, 80, 170], [80, 0, 230], [170, 230, 0]],
        "emulate_rtt": True,
    }


def test_rings_follow_from_distance() -> None:
    names = ["us-east", "eu-west", "ap-northeast", "mars", "venus"]
    topology = plan_topology(names, [f"127.0.0.1:{port}" for port in range(1, 6)], emulate_rtt=False)
    # us-east: eu-west 80 ms; mars and venus 120; ap-northeast 170.
    assert topology.rings[0] == (0, 1, 3, 2, 2)
    assert topology.rings[3] == (1, 1, 1, 0, 1)
    assert all(topology.rtt_ms[one][other] == topology.rtt_ms[other][one] for one in range(5) for other in range(5))
    assert "emulate_rtt = false" in topology.to_toml()


@pytest.mark.parametrize("names", [[], ["us-east", "us-east"], ["US"], [""], ["a b"], ["-a"], [f"r{n}" for n in range(11)]])
def test_impossible_regions_are_refused(names: list[str]) -> None:
    with pytest.raises(TopologyError):
        FleetPlan.make(port_base=None, regions=names)


def test_a_taken_port_is_named_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} is taken, the router of us-east needs it: .*--port-base"):
            FleetPlan.make(port_base=port - 11, regions=["us-east"])
    check_free([(port, "me")])
    assert len(set(free_ports(20))) == 20


def test_command_lines_and_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "intranet")
    region = FleetPlan.make(port_base=None).regions[1]
    (tmp_path / "policy.toml").touch()
    monkeypatch.setenv("REDIS_URL", "redis://:of-the-user@127.0.0.1:1/0")
    router = HomewardPrograms().router(region, tmp_path)
    worker = HomewardPrograms().worker(region, "eu-west-gpu-1")
    assert router[1:6] == ["-P", "-m", "router", "--region", "eu-west"]
    assert router[router.index("--policy") + 1] == str(tmp_path / "policy.toml")
    assert worker[worker.index("--router") + 1] == region.router
    assert not any("redis" in word for word in router), "a command line is for everybody to read"
    environment = router_environment(region, "redis://:secret@127.0.0.1:2/0")
    assert environment["REDIS_URL"] == "redis://:secret@127.0.0.1:2/0"
    assert len(environment["HOMEWARD_REGION_SECRET"]) == 64
    assert "REDIS_URL" not in worker_environment()
    assert region.secret not in repr(region)
    assert "HOMEWARD_REGION_SECRET" not in worker_environment()
    assert worker_environment()["OMP_NUM_THREADS"] == "1"
    assert worker_environment()["no_proxy"] == "intranet,127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@127.0.0.1:1/0", "redis://:***@127.0.0.1:1/0"),
        ("rediss://me:se:c@re/t@[::1]:1/0", "rediss://me:***@[::1]:1/0"),
        ("unix://:secret@/run/valkey.sock", "unix://:***@/run/valkey.sock"),
        ("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0"),
        ("redis://me@host/0", "redis://me@host/0"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert mask_password(url) == shown


def test_database_url() -> None:
    assert database_url("unix:///run/valkey.sock") == "unix:///run/valkey.sock"
    assert database_url("redis://127.0.0.1:1") == "redis://127.0.0.1:1/0"
    assert database_url("redis://127.0.0.1:1/") == "redis://127.0.0.1:1/0"
    assert database_url("redis://127.0.0.1:1/3") == "redis://127.0.0.1:1/3"


def a_state() -> FleetState:
    region = RegionState("here", "127.0.0.1:1", "127.0.0.1:2", "redis://127.0.0.1:3/0", 4, (WorkerState("here-gpu-1", 5),), 6)
    return FleetState(pid=os.getpid(), folder="/tmp/nowhere", regions=(region,))


def test_the_state_file_counts_only_while_its_fleet_lives(tmp_path: Path) -> None:
    assert read_fleet(tmp_path) is None
    file = FleetFile(tmp_path)
    assert read_fleet(tmp_path) is None, "starting, not up"
    file.write(a_state())
    assert read_fleet(tmp_path) == a_state()
    assert stat.S_IMODE((tmp_path / "fleet.json").stat().st_mode) == 0o600
    with pytest.raises(FleetRunning):
        FleetFile(tmp_path)
    file.close()
    assert read_fleet(tmp_path) is None
    assert not (tmp_path / "fleet.json").exists()
    FleetFile(tmp_path).close()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}', '{"version": 1, "pid": 1, "folder": "", "regions": [1]}'])
def test_an_unreadable_state_file_is_no_fleet(tmp_path: Path, text: str) -> None:
    file = FleetFile(tmp_path)
    (tmp_path / "fleet.json").write_text(text)
    assert read_fleet(tmp_path) is None
    file.close()


def test_the_state_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "homeward"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder() == Path.home() / ".local" / "state" / "homeward"
