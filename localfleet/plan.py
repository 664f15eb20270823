"""What a local fleet consists of: names, ports, and the command line and environment of every child.

The router, the worker and their packages are never imported here: they are other programs, started as such.
"""

import importlib.util
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from localfleet.ports import HOST, check_free, free_ports
from localfleet.topology import DEFAULT_REGIONS, Topology, plan_topology

PORT_BASE = 7400
ROUTER_OFFSET = 11  # 7411, 7412, 7413
METRICS_OFFSET = 21  # 7421, … : room for REGIONS_MAX routers between
WORKERS_PER_REGION_MAX = 64
WORKER_DRAIN_S = 8  # a run on a CPU takes a few seconds; more than WORKER_GRACE_S of the supervisor would be cut short

# -P: a folder named `router` in the user's working directory must not be what runs.
_PYTHON = (sys.executable, "-P", "-m")


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """One region of the fleet."""

    name: str
    router_port: int
    metrics_port: int
    workers: tuple[str, ...]
    """Names of its workers."""
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    """From which the region's router derives the keys of its workers."""

    @property
    def router(self) -> str:
        """host:port of the router."""
        return f"{HOST}:{self.router_port}"

    @property
    def metrics(self) -> str:
        """host:port of the router's metrics."""
        return f"{HOST}:{self.metrics_port}"


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The whole fleet before it starts."""

    regions: tuple[RegionPlan, ...]
    topology: Topology
    policy_toml: str = ""
    """Overrides of the policy's defaults, as a file's text."""

    @classmethod
    def make(
        cls,
        *,
        regions: Sequence[str] = DEFAULT_REGIONS,
        workers_per_region: int = 2,
        port_base: int | None = PORT_BASE,
        emulate_rtt: bool = True,
        policy_toml: str = "",
    ) -> Self:
        """Plan a fleet. `port_base` None takes any free ports.

        Raises `TopologyError` for impossible regions and `PortTaken` when something listens on a port it needs.
        """
        count = len(regions)
        if port_base is None:
            ports = free_ports(2 * count)
        else:
            offsets = (ROUTER_OFFSET, METRICS_OFFSET)
            ports = [port_base + offset + index for offset in offsets for index in range(count)]
        plans = tuple(
            RegionPlan(
                name=name,
                router_port=ports[index],
                metrics_port=ports[count + index],
                workers=tuple(f"{name}-gpu-{number}" for number in range(1, workers_per_region + 1)),
            )
            for index, name in enumerate(regions)
        )
        topology = plan_topology(regions, [plan.router for plan in plans], emulate_rtt)
        check_free([(plan.router_port, f"the router of {plan.name}") for plan in plans])
        check_free([(plan.metrics_port, f"the metrics of {plan.name}") for plan in plans])
        return cls(plans, topology, policy_toml)


class Programs(Protocol):
    """Which programs the children are. The tests have others."""

    def router(self, region: RegionPlan, folder: Path) -> list[str]:
        """Return the command line of a region's router. The topology is in `folder`."""

    def worker(self, region: RegionPlan, name: str) -> list[str]:
        """Return the command line of one worker."""


class HomewardPrograms:
    """The real ones: `python -m router` and `python -m workers`."""

    def router(self, region: RegionPlan, folder: Path) -> list[str]:
        """Return the command line of a region's router."""
        command = [*_PYTHON, "router", "--region", region.name, "--listen", region.router]
        command += ["--topology", str(folder / "topology.toml"), "--metrics-listen", region.metrics]
        if (folder / "policy.toml").exists():
            command += ["--policy", str(folder / "policy.toml")]
        return [*command, "--log-level", "warning"]

    def worker(self, region: RegionPlan, name: str) -> list[str]:
        """Return the command line of one worker."""
        command = [*_PYTHON, "workers", "--region", region.name, "--router", region.router, "--name", name]
        return [*command, "--slots", "1", "--listen", f"{HOST}:0", "--threads", "1", "--drain-s", str(WORKER_DRAIN_S)]


def router_environment(region: RegionPlan, redis_url: str) -> dict[str, str]:
    """Return the environment of a router: ours, and the region's secrets.

    The URL of the slot ledger is one, since it may have a password in it, and every user of this machine can read a command line.
    """
    return {**_base_environment(), "HOMEWARD_REGION_SECRET": region.secret, "REDIS_URL": redis_url}


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: ours without the slot ledger, which is none of its business, and one quiet thread.

    OpenMP threads that spin while they wait would take the other workers' cores.
    """
    environment = {**_base_environment(), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("REDIS_URL", None)
    return environment


def _base_environment() -> dict[str, str]:
    """Return our environment, such that gRPC never goes through an HTTP proxy to reach this machine."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    local = ",".join(filter(None, [hosts, HOST, "localhost"]))
    return {**os.environ, "no_proxy": local, "NO_PROXY": local, "PYTHONUNBUFFERED": "1"}


# What the children import first, by the extra that brings it.
_MODULES = {
    "router": ("redis", "prometheus_client", "grpc_health", "grpc_reflection", "asyncio_throttle"),
    "worker": ("torch", "numpy", "PIL", "safetensors", "grpc_health"),
}


def missing_package(extra: str) -> str | None:
    """Return one line when a package of the extra "router" or "worker" is not installed."""
    for module in _MODULES[extra]:
        if importlib.util.find_spec(module) is None:
            return f"the package of the Python module {module} is not installed: pip install 'homeward[{extra}]'"
    return None
