"""More than one region can take: spillover, backoff, marginal execution delay, and what `homeward explain` says of them."""

import asyncio
from pathlib import Path

from homeward import AsyncClient, Waiting

from .command_line import CommandLine
from .patience import until
from .photos import photo
from .running_fleet import FREE_S_MAX, RunningFleet
from .sending import send

BURST = 8  # two slots at home, two next door: at least four have to wait


async def test_a_burst_spills_and_waits_and_explains_itself(fleet: RunningFleet, homeward: CommandLine) -> None:
    async with AsyncClient(fleet.router("us-east")) as client:
        rows = await asyncio.gather(*(send(client, photo=photo(), motion="zoom", seed=seed) for seed in range(BURST)))
    assert [row.error for row in rows] == [None] * BURST
    done = [row.finished for row in rows if row.finished is not None]
    spilled = [one for one in done if one.served_region == "eu-west"]
    assert spilled, [one.served_region for one in done]
    assert any(one.served_region == "us-east" for one in done)
    assert any(isinstance(event, Waiting) for row in rows for event in row.events), "somebody had to wait"
    waited = [one for one in done if one.attempts > 1]
    assert waited
    assert all(one.wait_ms > 0 for one in waited)

    first = min(spilled, key=lambda one: (one.attempts, one.wait_ms))
    story = (await asyncio.to_thread(homeward, "explain", first.request_id, "--json")).document
    assert (story["home_region"], story["served_region"], story["outcome"]) == ("us-east", "eu-west", "OK")
    decisions = story["decisions"]
    asked_home, went = decisions[0], next(one for one in decisions if one["reason"] == "RING_UNLOCKED")
    assert (asked_home["reason"], asked_home["command"], asked_home["region"]) == ("HOME_FIRST", "reserve", "us-east")
    assert (went["event"], went["refusal"], went["command"], went["region"]) == ("refused", "FULL", "reserve", "eu-west")
    assert went["home_load"] == 1.0
    assert 0 <= went["snapshot_age_us"] < 5_000_000
    assert decisions[-1]["reason"] == "SUCCEEDED"
    assert [one["at_us"] for one in decisions] == sorted(one["at_us"] for one in decisions)
    last = max(waited, key=lambda one: one.attempts)
    story = (await asyncio.to_thread(homeward, "explain", last.request_id, "--json")).document
    reasons = {one["reason"] for one in story["decisions"]}
    assert reasons >= {"RETRY_NEEDS_BUDGET", "WAIT_OVER"}
    assert reasons & {"BACKOFF", "SLOT_ETA"}
    await asyncio.to_thread(until, fleet.all_free, "every slot is free again", FREE_S_MAX)


async def test_marginal_execution_delay_is_seen_in_result_and_story(
    fleet: RunningFleet, homeward: CommandLine, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    # Nobody may leave home, so three of five wait and the pressure is full: then every granted job is delayed.
    policy.write_text("ring_unlock = [2.0, 2.0, 2.0]\n[start_delay]\nshare_max = 1.0\nspread_max_s = 0.4\npressure_from = 0.5\n")
    second, target = await asyncio.to_thread(fleet.start_second_router, "us-east", policy)
    try:
        async with AsyncClient(target) as client:
            rows = await asyncio.gather(*(send(client, photo=photo(), motion="zoom", seed=seed) for seed in range(5)))
        assert [row.error for row in rows] == [None] * 5
        done = [row.finished for row in rows if row.finished is not None]
        assert {one.served_region for one in done} == {"us-east"}
        delayed = max(done, key=lambda one: one.start_delay_ms)
        assert 0 < delayed.start_delay_ms <= 400
        ran = await asyncio.to_thread(homeward, "explain", delayed.request_id, "--router", target, "--json")
        started = next(one for one in ran.document["decisions"] if one["reason"] == "START_DELAYED")
        assert (started["command"], started["region"]) == ("dispatch", "us-east")
        assert started["pressure"] > 0.5
        assert started["draw"] < started["share"] <= 1.0
        assert started["delay_us"] // 1000 == delayed.start_delay_ms
    finally:
        second.terminate()
        assert await asyncio.to_thread(second.wait, 20) == 0
    await asyncio.to_thread(until, fleet.all_free, "every slot is free again", FREE_S_MAX)
