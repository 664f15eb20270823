"""The fleet that most tests share: real processes, each of which may be killed, and repaired before the next test.

Names of processes: "valkey-us-east", "router-us-east", "us-east-gpu-1". A process that was killed is started again with the
same command line and environment, so the fleet is the same one throughout. What the processes log is kept by name.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from homeward import Client, HomewardError, Region
from localfleet import guard
from localfleet.plan import HomewardPrograms, RegionPlan, router_environment, worker_environment
from localfleet.ports import free_ports
from localfleet.state import FleetState, read_fleet
from localfleet.valkey import EmbeddedValkey

from . import fleet_process
from .patience import until
from .processes import is_alive, kill

REGIONS = ("us-east", "eu-west")
WORKERS_PER_REGION = 2
START_S_MAX = 90.0
STOP_S_MAX = 30.0
LEASE_S = 4.0
"""`LedgerTimings.lease_us`: a worker that was killed disappears within it."""
FREE_S_MAX = LEASE_S + 4.0
"""All slots are free again within this. Below the 10 s after which a forgotten reservation expires, which would hide a leak."""

_JOB = re.compile(r"(started|ended) reservation ([A-Za-z0-9._-]+): (\w+)")


@dataclass(frozen=True)
class JobLine:
    """What a worker's log says of one job: started, or how it ended."""

    worker: str
    reservation_id: str
    what: str
    """Either "started", "completed", "stopped", "rejected" or "failed"."""

    @property
    def request_id(self) -> str:
        """A router's reservation id is `REQUEST.ATTEMPT.REGION.RANDOM`."""
        return self.reservation_id.rsplit(".", 3)[0]


class RunningFleet:
    """Two regions of two workers."""

    def __init__(self, folder: Path) -> None:
        self.state_home = folder / "state"
        temporary = folder / "temporary"
        temporary.mkdir()
        self.reports = folder / "reports"
        environment = os.environ | {"XDG_STATE_HOME": str(self.state_home), "TMPDIR": str(temporary)}
        script = fleet_process.__file__
        with self.reports.open("wb") as reports:
            self._supervisor = subprocess.Popen(
                [sys.executable, script, ",".join(REGIONS), str(WORKERS_PER_REGION)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=reports,
                text=True,
            )
        # A test run that is killed outright leaves nothing behind either.
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self._guarded: list[int] = []
        self._keep(self._supervisor.pid, "process")
        assert self._supervisor.stdout is not None
        began = time.monotonic()
        line = self._supervisor.stdout.readline()
        self.started_in_s = time.monotonic() - began
        assert line, f"the fleet did not start: {self.reports.read_text()}"
        plans = (RegionPlan(**{**plan, "workers": tuple(plan["workers"])}) for plan in json.loads(line))
        self.plans = {plan.name: plan for plan in plans}
        state = read_fleet(self.state_home / "homeward")
        assert state is not None
        self.state: FleetState = state
        self.folder = Path(state.folder)
        self._pids = {
            f"router-{region.name}": region.router_pid for region in state.regions
        } | {worker.name: worker.pid for region in state.regions for worker in region.workers}
        for region in state.regions:
            assert region.valkey_pid is not None
            self._pids[f"valkey-{region.name}"] = region.valkey_pid
        self._again: list[subprocess.Popen[bytes]] = []
        self._valkeys: list[EmbeddedValkey] = []
        self._starts: Counter[str] = Counter()

    def stop(self) -> None:
        """Stop everything."""
        for process in self._again:
            process.terminate()
        for process in self._again:
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._supervisor.terminate()
        try:
            self._supervisor.communicate(timeout=STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.communicate()
        for valkey in self._valkeys:
            valkey.stop()
        self._guard.communicate("".join(f"-{pid}\n" for pid in self._guarded))
        shutil.rmtree(self.folder, ignore_errors=True)

    # What there is.

    def router(self, region: str) -> str:
        """host:port of a region's router."""
        return self.plans[region].router

    def pid(self, name: str) -> int:
        """Process id by name."""
        return self._pids[name]

    def is_supervised(self, name: str) -> bool:
        """Whether the fleet itself started it, and not a test."""
        return self._starts[name] == 0

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process."""
        kill(self._pids[name], number)

    def valkey_port(self, region: str) -> int:
        """Where the region's Valkey listens."""
        state = self.state.region(region)
        assert state is not None
        port = urlsplit(state.redis_url).port
        assert port is not None
        return port

    def logs(self, name: str) -> list[list[str]]:
        """Lines of every log of this name, one list for each process that bore it."""
        paths = [self.folder / f"{name}.log"]
        paths += [self.folder / f"{name}.{number}.log" for number in range(1, self._starts[name] + 1)]
        return [path.read_text(errors="replace").splitlines() for path in paths]

    def defects(self) -> Counter[str]:
        """Every line in which a router or worker admits a defect, or that heads a traceback."""
        names = [*(f"router-{region}" for region in REGIONS), *self.workers]
        lines = [f"{name}: {line}" for name in names for log in self.logs(name) for line in log]
        signs = ("traceback", "exception", "defect")
        return Counter(line for line in lines if any(sign in line.lower() for sign in signs))

    @property
    def workers(self) -> list[str]:
        """Every worker's name."""
        return [name for plan in self.plans.values() for name in plan.workers]

    def jobs_of(self, worker: str) -> list[list[JobLine]]:
        """What the worker says about its jobs, in order, one list for each process that bore the name."""
        told = []
        for lines in self.logs(worker):
            found = [match for line in lines if (match := _JOB.search(line)) is not None]
            told.append([JobLine(worker, match[2], match[1] if match[1] == "started" else match[3]) for match in found])
        return told

    def fate_of(self, request_id: str) -> list[str]:
        """What all workers say about the jobs of one request."""
        told = [job for worker in self.workers for jobs in self.jobs_of(worker) for job in jobs]
        return [job.what for job in told if job.request_id == request_id]

    def metric(self, region: str, name: str) -> float:
        """The value of a metric of a region's router that has no labels but its region."""
        with urllib.request.urlopen(f"http://{self.plans[region].metrics}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        match = re.search(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        assert match is not None, f"{name} is not among the metrics"
        return float(match[1])

    def regions(self, asked: str) -> dict[str, Region]:
        """Regions as the router of `asked` sees them; empty when it does not answer."""
        try:
            with Client(self.router(asked)) as client:
                return {region.region: region for region in client.regions().regions}
        except HomewardError:
            return {}

    def all_free(self, slots: dict[str, int] | None = None) -> bool:
        """Whether every router sees every region usable, with these slots (default: all), all free, and nobody waiting."""
        wanted = dict.fromkeys(REGIONS, WORKERS_PER_REGION) | (slots or {})
        for asked in REGIONS:
            seen = self.regions(asked)
            if not seen or any(
                not seen[name].usable or seen[name].slots != count or seen[name].busy or seen[name].waiting
                for name, count in wanted.items()
            ):
                return False
        return True

    # Starting again what was killed.

    def repair(self) -> None:
        """Start again whatever is dead, and wait until the whole fleet is free."""
        for region in REGIONS:
            if not is_alive(self.pid(f"valkey-{region}")):
                self.restart_valkey(region)
        started = []
        for plan in self.plans.values():
            if not is_alive(self.pid(f"router-{plan.name}")):
                started.append(self.start_router(plan))
            started += [self.start_worker(plan.name, name) for name in plan.workers if not is_alive(self.pid(name))]
        for process in started:
            read_ready(process)
        until(self.all_free, "every slot of the repaired fleet is free")

    def restart_valkey(self, region: str) -> None:
        """Start an empty Valkey on the region's port."""
        valkey = EmbeddedValkey(port=self.valkey_port(region)).start()
        self._valkeys.append(valkey)
        self._pids[f"valkey-{region}"] = valkey.pid
        self._keep(valkey.pid, "process")

    def restart_router(self, region: str) -> None:
        """Start the region's router on its port with its arguments, and wait until it is ready."""
        read_ready(self.start_router(self.plans[region]))

    def start_router(self, plan: RegionPlan) -> "subprocess.Popen[bytes]":
        """Start the region's router again."""
        command = HomewardPrograms().router(plan, self.folder)
        return self.start_again(f"router-{plan.name}", command, self.router_environment(plan))

    def router_environment(self, plan: RegionPlan) -> dict[str, str]:
        """Return the environment of a router of the region."""
        return router_environment(plan, f"redis://127.0.0.1:{self.valkey_port(plan.name)}/0")

    def start_worker(self, region: str, name: str) -> "subprocess.Popen[bytes]":
        """Start a worker; whoever had the name before is still there or not."""
        command = HomewardPrograms().worker(self.plans[region], name)
        return self.start_again(name, command, worker_environment())

    def start_second_router(self, region: str, policy: Path) -> tuple["subprocess.Popen[bytes]", str]:
        """Start one more router of a region, with a policy of its own. Returns its process and address."""
        router_port, metrics_port = free_ports(2)
        plan = replace(self.plans[region], router_port=router_port, metrics_port=metrics_port)
        command = [*HomewardPrograms().router(plan, self.folder), "--policy", str(policy)]
        process = self.start_again(f"second-router-{region}", command, self.router_environment(plan))
        read_ready(process)
        return process, plan.router

    def start_again(self, name: str, command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Start a process under a name."""
        self._starts[name] += 1
        with (self.folder / f"{name}.{self._starts[name]}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self._again.append(process)
        self._keep(process.pid, "group")
        self._pids[name] = process.pid
        return process

    def _keep(self, pid: int, kind: str) -> None:
        """Tell the guard of a process, or of a group of that id."""
        assert self._guard.stdin is not None
        self._guarded.append(pid)
        self._guard.stdin.write(f"+{kind} {pid}\n")
        self._guard.stdin.flush()


def read_ready(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for the line with which a router or worker says that it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"it ended with {process.wait()} before it was ready"
    process.stdout.close()
    said: dict[str, Any] = json.loads(line)
    assert said["ready"] is True
    return said


