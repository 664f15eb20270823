"""Starts a whole fleet on this machine, watches it, and stops it.

Rules:

* Order of starting: the Valkeys, then every router and worker at once (they wait for each other). Order of stopping: workers,
  routers, Valkeys, so that running jobs can still tell their router how they ended.
* A child that dies is reported in one line and **not restarted**: the rest goes on serving, and what that looks like is what a
  local fleet is for. Restarting is a deployment's job. Only when no router is left is there nothing more to serve.
* No child outlives the supervisor, however it ends (`localfleet.guard`).
"""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from homeward import AsyncClient, HomewardError, Region
from localfleet.child import Child, ChildDied
from localfleet.plan import FleetPlan, HomewardPrograms, Programs, RegionPlan, router_environment, worker_environment
from localfleet.state import FleetState, RegionState, WorkerState
from localfleet.stores import ExternalStore, Store, database_url, mask_password, wait_gone

READY_TIMEOUT_S = 60.0  # 15 s on two cores is usual; a cold disk that has to read torch takes longer
SETTLE_POLL_S = 0.1
# Running jobs may finish: a run is a few seconds on a CPU. Afterwards the worker is killed.
WORKER_GRACE_S = 10.0
ROUTER_GRACE_S = 5.0


ASKED_WRONGLY = 2
"""Exit code of a router whose settings are wrong; it has opened nothing then."""


class FleetFailed(Exception):
    """The fleet did not start, or nothing of it is left. One line."""


class FleetMisconfigured(Exception):
    """A router refused its settings. One line; it names the policy file as `Fleet.policy_path`."""


class Fleet:
    """One fleet: `start`, `serve`, `stop`. `stop` is always called, also after a `start` that failed or was cancelled."""

    def __init__(
        self,
        plan: FleetPlan,
        make_store: Callable[[], Store],
        report: Callable[[str], None],
        programs: Programs | None = None,
    ) -> None:
        """`make_store` makes the server of one region; `report` shows one line to the user."""
        self.plan = plan
        self.folder = Path(tempfile.mkdtemp(prefix="homeward-"))
        self.policy_path = self.folder / "policy.toml"
        """What the routers read: a copy of the user's file."""
        self._programs = programs or HomewardPrograms()
        self._report = report
        self._stores = [make_store() for _ in plan.regions]
        self._store_starts: list[asyncio.Task[object]] = []
        self._routers: dict[str, Child] = {}
        self._workers: dict[str, list[Child]] = {region.name: [] for region in plan.regions}
        self._watchers: list[asyncio.Task[None]] = []
        self._guard: asyncio.subprocess.Process | None = None
        self._routers_gone = asyncio.Event()
        self._has_deaths = False

    async def start(self) -> FleetState:
        """Start everything; return when every region can serve and sees the others.

        Raises `FleetFailed`, and `FleetMisconfigured` for a policy that the first router refuses, before anything else runs.
        """
        (self.folder / "topology.toml").write_text(self.plan.topology.to_toml())
        if self.plan.policy_toml:
            self.policy_path.write_text(self.plan.policy_toml)
        guard = Path(__file__).with_name("guard.py")
        self._guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(guard)),
            stdin=asyncio.subprocess.PIPE,
            # It outlives us for a moment; whoever reads our output should not have to wait for that.
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._store_starts = [asyncio.create_task(asyncio.to_thread(store.start)) for store in self._stores]
        await asyncio.gather(*self._store_starts)
        for store in self._stores:
            if store.pid is not None:
                self._tell_guard("+process", store.pid)
        try:
            if self.plan.policy_toml:
                first, store = self._pairs()[0]
                await self._start_router(first, store)
                await self._routers[first.name].wait_ready(READY_TIMEOUT_S)
            await _all([self._start_region(region, store) for region, store in self._pairs()])
            await asyncio.wait_for(_all([self._settle(region) for region in self.plan.regions]), READY_TIMEOUT_S)
        except ChildDied as error:
            is_router = any(not router.is_running for router in self._routers.values())
            if error.exit_code == ASKED_WRONGLY and is_router:
                raise FleetMisconfigured(error.last_words.removeprefix("homeward router: ")) from error
            self._has_deaths = True
            raise FleetFailed(f"{error} (logs in {self.folder})") from error
        except TimeoutError as error:
            raise FleetFailed(f"the fleet did not settle within {READY_TIMEOUT_S:g} s (logs in {self.folder})") from error
        for region, store in self._pairs():
            self._watch_region(region, store)
        return self._state()

    async def serve(self) -> None:
        """Wait until no router is left, then raise `FleetFailed`. Cancel it to go on."""
        await self._routers_gone.wait()
        raise FleetFailed(f"every router is dead, so nothing can be served any more (logs in {self.folder})")

    async def stop(self) -> None:
        """Stop workers, then routers, then Valkeys; report who had to be killed."""
        for watcher in self._watchers:
            watcher.cancel()
        workers = [worker for workers in self._workers.values() for worker in workers]
        await self._stop_children(workers, WORKER_GRACE_S)
        await self._stop_children(list(self._routers.values()), ROUTER_GRACE_S)
        await asyncio.gather(*self._store_starts, return_exceptions=True)
        await asyncio.gather(*(asyncio.to_thread(store.stop) for store in self._stores), return_exceptions=True)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await self._guard.wait()
        if not self._has_deaths:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """Kill every child now; `stop` still has to be awaited."""
        for child in self._children():
            child.kill()

    def _pairs(self) -> list[tuple[RegionPlan, Store]]:
        return list(zip(self.plan.regions, self._stores, strict=True))

    def _children(self) -> list[Child]:
        return [*self._routers.values(), *(worker for workers in self._workers.values() for worker in workers)]

    async def _start_region(self, region: RegionPlan, store: Store) -> None:
        """Start a region's router and workers at once and wait until all are ready."""
        if region.name not in self._routers:
            await self._start_router(region, store)
        for name in region.workers:
            worker = self._programs.worker(region, name)
            self._workers[region.name].append(await self._start_child(name, worker, worker_environment()))
        children = [self._routers[region.name], *self._workers[region.name]]
        await _all([child.wait_ready(READY_TIMEOUT_S) for child in children])

    async def _start_router(self, region: RegionPlan, store: Store) -> None:
        router, environment = self._programs.router(region, self.folder), router_environment(region, database_url(store.url))
        self._routers[region.name] = await self._start_child(f"router-{region.name}", router, environment)

    async def _start_child(self, name: str, command: Sequence[str], environment: dict[str, str]) -> Child:
        child = await Child.start(name, command, environment, self.folder)
        self._tell_guard("+group", child.pid)
        return child

    async def _settle(self, region: RegionPlan) -> None:
        """Wait until the region's router counts all its own slots and finds every other region usable."""
        async with AsyncClient(region.router) as client:
            while True:
                for child in self._children():
                    if not child.is_running:
                        raise ChildDied(await child.obituary())
                with contextlib.suppress(HomewardError):
                    seen = (await client.regions()).regions
                    if self._is_settled(seen):
                        return
                await asyncio.sleep(SETTLE_POLL_S)

    def _is_settled(self, seen: Sequence[Region]) -> bool:
        slots = {region.region: region.slots for region in seen if region.usable}
        return all(slots.get(region.name, 0) >= len(region.workers) for region in self.plan.regions)

    def _watch_region(self, region: RegionPlan, store: Store) -> None:
        router = self._routers[region.name]
        self._watch(router, f"gateways of {region.name} have no router; the other regions go on")
        for worker in self._workers[region.name]:
            self._watch(worker, f"{region.name} goes on with its other workers and its neighbours")
        self._watchers.append(asyncio.create_task(self._watch_store(region, store)))

    def _watch(self, child: Child, consequence: str) -> None:
        self._watchers.append(asyncio.create_task(self._bury(child, consequence)))

    async def _bury(self, child: Child, consequence: str) -> None:
        """Wait for one child's end and report it."""
        obituary = await child.wait_ended()
        self._tell_guard("-", child.pid)
        self._has_deaths = True
        self._report(f"{obituary}; {consequence}")
        if not any(router.is_running for router in self._routers.values()):
            self._routers_gone.set()

    async def _watch_store(self, region: RegionPlan, store: Store) -> None:
        await wait_gone(store.url)
        self._has_deaths = True
        self._report(
            f"the Valkey of {region.name} is gone: running jobs finish, and {region.name} places nothing at home until it is "
            "back; the other regions go on"
        )

    async def _stop_children(self, children: Sequence[Child], grace_s: float) -> None:
        went = await asyncio.gather(*(child.stop(grace_s) for child in children))
        for child, by_itself in zip(children, went, strict=True):
            self._tell_guard("-", child.pid)
            if not by_itself:
                self._report(f"{child.name} did not stop within {grace_s:g} s and was killed")

    def _tell_guard(self, word: str, pid: int) -> None:
        """Tell the guard of a process that started ("+group", "+process") or ended ("-")."""
        if self._guard is not None and self._guard.stdin is not None and not self._guard.stdin.is_closing():
            separator = "" if word == "-" else " "
            self._guard.stdin.write(f"{word}{separator}{pid}\n".encode())

    def _state(self) -> FleetState:
        regions = tuple(
            RegionState(
                name=region.name,
                router=region.router,
                metrics=region.metrics,
                redis_url=mask_password(database_url(store.url)),
                router_pid=self._routers[region.name].pid,
                workers=tuple(WorkerState(worker.name, worker.pid) for worker in self._workers[region.name]),
                valkey_pid=store.pid,
            )
            for region, store in self._pairs()
        )
        return FleetState(pid=os.getpid(), folder=str(self.folder), regions=regions)


async def _all(jobs: Sequence[Coroutine[Any, Any, Any]]) -> None:
    """Run all; the first error cancels the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except* Exception as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def choose_store(redis_url: str | None) -> Callable[[], Store]:
    """Return what makes the server of a region: the one at `redis_url` for all, else an embedded one for each."""
    if redis_url:
        return lambda: ExternalStore(redis_url)
    from localfleet.valkey import EmbeddedValkey

    return EmbeddedValkey
