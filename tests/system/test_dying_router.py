"""A router killed with jobs running, and started again with the same arguments."""

import asyncio

from homeward import AsyncClient, RouterUnavailable

from .patience import until, until_async
from .photos import LARGE_PX, photo
from .running_fleet import FREE_S_MAX, REGIONS, RunningFleet
from .sending import Sent, follow, region_of, send


async def test_a_router_killed_and_restarted(fleet: RunningFleet) -> None:
    rows = [Sent(f"lost-with-the-router-{number}") for number in range(4)]
    async with AsyncClient(fleet.router("us-east")) as client, AsyncClient(fleet.router("eu-west")) as neighbour:
        jobs = [
            asyncio.create_task(
                follow(row, client, photo=photo(LARGE_PX), motion="zoom", request_id=row.request_id, timeout_s=60.0)
            )
            for row in rows
        ]
        # Two at home and two next door: the killed router is the only one who knows of either.
        await until_async(lambda: {region_of(row) for row in rows if row.is_running} == set(REGIONS), "jobs run in both regions")
        fleet.kill("router-us-east")
        await until_async(lambda: all(job.done() for job in jobs), "every caller knows")
        lost = [row for row in rows if row.finished is None]
        assert {region_of(row) for row in lost} == set(REGIONS)
        for row in lost:
            assert isinstance(row.error, RouterUnavailable), row
            assert row.error.message.startswith("lost the router at ")
            assert row.error.work_began is (True if row.is_running else None)

        served = await send(neighbour, photo=photo(), motion="zoom")
        assert served.finished is not None, served.error
        assert served.finished.served_region == "eu-west"
        alone = await send(client, photo=photo(), motion="zoom")
        assert isinstance(alone.error, RouterUnavailable)

        for row in lost:
            if row.is_running:
                ended = await until_async(lambda row=row: fleet.fate_of(row.request_id)[1:], "the worker ended the abandoned job")
                assert ended == ["stopped"]

        await asyncio.to_thread(fleet.restart_router, "us-east")
        await asyncio.to_thread(until, fleet.all_free, "the workers are back and every slot is free", FREE_S_MAX)
        again = await send(client, photo=photo(), motion="zoom")
        assert again.finished is not None, again.error
        assert again.finished.served_region == "us-east"
    await asyncio.to_thread(until, fleet.all_free, "every slot is free again", FREE_S_MAX)
