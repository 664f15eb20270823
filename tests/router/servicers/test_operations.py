"""What operators are told."""

import asyncio

from homeward import Outcome
from tests.router.stand import Stand, eventually


async def test_regions_of_a_lonely_router(stand: Stand) -> None:
    regions = await stand.client.regions()
    assert regions.home_region == stand.region
    (home,) = regions.regions
    assert (home.ring, home.rtt_ms, home.slots, home.usable, home.trouble) == (0, 0.0, 0, True, "")
    await stand.worker("gpu-1", slots=3)
    await stand.worker("gpu-2", slots=2, model="restyle")
    (home,) = (await stand.client.regions()).regions
    assert (home.slots, home.busy, home.free) == (5, 0, 5)
    assert sorted(pool.models for pool in home.pools) == [("animate",), ("restyle",)]
    # 3 slots at a reserve share of 0.1: floor(0.3 + 0.5) = 0 are kept; of 2 none either.
    assert home.offered == 5
    assert 0 <= home.snapshot_age_ms < 5_000


async def test_workers_by_name(stand: Stand) -> None:
    for name in ("gpu-b", "gpu-a", "gpu-c"):
        await stand.worker(name, slots=2, service_ms=70)
    seen = await stand.client.workers()
    assert seen.region == stand.region
    assert [worker.worker for worker in seen.workers] == ["gpu-a", "gpu-b", "gpu-c"]
    first = seen.workers[0]
    assert (first.slots, first.busy, first.state, first.service_ms) == (2, 0, "ready", 70)
    assert first.variants == ("animate-v1",)
    assert 0 < first.lease_left_ms <= 3_000


async def test_a_story_while_it_is_written(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker()
    worker.hold()
    running = asyncio.create_task(stand.client.run(photo=photo, request_id="request-1"))
    await worker.until(lambda each: len(each.running) == 1, "the job starts")
    story = await stand.client.explain("request-1")
    assert (story.outcome, story.served_region) == (Outcome.UNSPECIFIED, "")
    assert [decision.reason for decision in story.decisions] == ["HOME_FIRST", "START_NOW"]
    assert story.decisions[0].text == f"ask {stand.region} for a slot: home is tried first"
    worker.go()
    await running
    story = await stand.client.explain("request-1")
    assert (story.outcome, story.served_region, story.model) == (Outcome.OK, stand.region, "animate")
    assert story.arrived_unix_us > 0


async def test_busy_slots_are_seen_from_the_ledger(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker(slots=2)
    worker.hold()
    running = [asyncio.create_task(stand.client.run(photo=photo)) for _ in range(2)]
    await worker.until(lambda each: len(each.running) == 2, "both jobs start")
    (home,) = (await stand.client.regions()).regions
    assert (home.busy, home.free, home.load, home.offered) == (2, 0, 1.0, 0)
    assert (await stand.client.workers()).workers[0].busy == 2
    await eventually(lambda: stand.metric("homeward_slots_busy", pool=home.pools[0].pool) == 2, "the gauge follows")
    worker.go()
    await asyncio.gather(*running)
    await stand.all_free()
