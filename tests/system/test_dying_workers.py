"""Workers that die, leave, or are replaced while they work."""

import asyncio
import signal

from homeward import AsyncClient, Client, Event, Progress

from .command_line import CommandLine
from .patience import until, until_async
from .photos import LARGE_PX, photo
from .processes import is_alive
from .running_fleet import FREE_S_MAX, RunningFleet, read_ready
from .sending import Sent, follow, send

HUNG_S_MAX = 30.0
"""A silent connection is pinged after 10 s and given up after 5 s more. Then the job runs again."""


def listed(homeward: CommandLine) -> dict[str, str]:
    """State of every worker by name, as `homeward workers` says."""
    regions = homeward("workers", "--json").document["regions"]
    return {worker["worker"]: worker["state"] for region in regions for worker in region["workers"]}


async def test_a_worker_killed_in_the_middle_costs_an_attempt_and_nothing_else(
    fleet: RunningFleet, homeward: CommandLine
) -> None:
    killed: list[str] = []

    def on_event(sent: Sent, event: Event) -> None:
        if isinstance(event, Progress) and not killed:
            killed.append(sent.worker)
            fleet.kill(sent.worker)

    async with AsyncClient(fleet.router("us-east")) as client:
        row = await send(client, on_event, photo=photo(LARGE_PX), motion="zoom")
    assert row.error is None
    assert row.finished is not None
    assert row.finished.attempts == 2
    assert row.finished.worker not in killed
    story = (await asyncio.to_thread(homeward, "explain", row.request_id, "--json")).document["decisions"]
    assert "WORKER_FAILED_RETRY" in {decision["reason"] for decision in story}
    dead = killed[0]
    await asyncio.to_thread(until, lambda: dead not in listed(homeward), "the dead worker is gone", FREE_S_MAX)
    await asyncio.to_thread(until, lambda: fleet.all_free({"us-east": 1}), "the other slots are free", FREE_S_MAX)
    if fleet.is_supervised(dead):
        reported = [line for line in fleet.reports.read_text().splitlines() if line.startswith(dead)]
        assert len(reported) == 1
        assert reported[0].startswith(f"{dead} died (killed by SIGKILL); its last log line: ")
        assert reported[0].endswith("; us-east goes on with its other workers and its neighbours")


async def test_a_hung_worker_is_given_up_and_comes_back(fleet: RunningFleet) -> None:
    hung: list[str] = []

    def on_event(sent: Sent, event: Event) -> None:
        if isinstance(event, Progress) and not hung:
            hung.append(sent.worker)
            fleet.kill(sent.worker, signal.SIGSTOP)

    try:
        async with AsyncClient(fleet.router("us-east")) as client:
            row = await send(client, on_event, photo=photo(LARGE_PX), motion="zoom")
    finally:
        for name in hung:
            fleet.kill(name, signal.SIGCONT)
    assert row.finished is not None, row.error
    assert row.finished.attempts == 2
    assert row.finished.worker != hung[0]
    assert row.finished.total_ms < HUNG_S_MAX * 1000
    # Awake again, it has lost lease, reservation and stream, and finds its way back.
    await asyncio.to_thread(until, fleet.all_free, "every slot is there and free", FREE_S_MAX)
    assert sorted(fleet.fate_of(row.request_id)) == ["completed", "started", "started", "stopped"]


async def test_sigterm_drains_a_worker_and_its_job_finishes(fleet: RunningFleet, homeward: CommandLine) -> None:
    leaving: list[str] = []

    def on_event(sent: Sent, event: Event) -> None:
        if isinstance(event, Progress) and not leaving:
            leaving.append(sent.worker)
            fleet.kill(sent.worker, signal.SIGTERM)

    async with AsyncClient(fleet.router("eu-west")) as client:
        row = await send(client, on_event, photo=photo(LARGE_PX), motion="zoom")
    assert row.finished is not None, row.error
    assert (row.finished.attempts, row.finished.worker) == (1, leaving[0])
    # It said goodbye, so nobody has to wait for its lease to end.
    await asyncio.to_thread(until, lambda: leaving[0] not in listed(homeward), "the drained worker is gone")
    await asyncio.to_thread(until, lambda: not is_alive(fleet.pid(leaving[0])), "its process has ended")
    assert fleet.logs(leaving[0])[-1][-1].endswith("ended")
    await asyncio.to_thread(until, lambda: fleet.all_free({"eu-west": 1}), "the other slots are free", FREE_S_MAX)


async def test_a_second_worker_of_one_name_replaces_the_first(fleet: RunningFleet) -> None:
    name = "us-east-gpu-1"
    older = fleet.pid(name)
    newer = fleet.start_worker("us-east", name)
    await asyncio.to_thread(read_ready, newer)
    await asyncio.to_thread(until, lambda: not is_alive(older), "the older worker has stopped")
    assert any("a newer worker has taken this name; stopping" in line for line in fleet.logs(name)[-2])
    await asyncio.to_thread(until, fleet.all_free, "every slot is there once", FREE_S_MAX)
    with Client(fleet.router("us-east")) as client:
        assert [worker.worker for worker in client.workers().workers] == ["us-east-gpu-1", "us-east-gpu-2"]
        done = [client.run(photo=photo(), motion="zoom", timeout_s=60) for _ in range(2)]
    assert {one.worker for one in done} == {"us-east-gpu-1", "us-east-gpu-2"}


async def test_both_workers_of_a_region_dead_is_failover(fleet: RunningFleet) -> None:
    for name in fleet.plans["us-east"].workers:
        fleet.kill(name)
    row = Sent("both-are-dead-1")
    async with AsyncClient(fleet.router("us-east")) as client:
        sending = asyncio.create_task(
            follow(row, client, photo=photo(), motion="zoom", timeout_s=30.0, request_id=row.request_id)
        )
        await until_async(sending.done, "it ended", 35.0)
    assert row.finished is not None, row.error
    assert row.finished.served_region == "eu-west"
    await asyncio.to_thread(until, lambda: fleet.all_free({"us-east": 0}), "the other region is free", FREE_S_MAX)
