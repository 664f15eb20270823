"""Emulated distance, in virtual time: late by the same time, in order, not slower."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.peering.distance import IN_FLIGHT_MAX, travel, travelled
from tests.router.virtual_time import run_virtual


def now_us() -> int:
    return round(asyncio.get_running_loop().time() * 1e6)


async def sender(gaps_us: list[int], sent: list[int], error: Exception | None = None) -> AsyncIterator[int]:
    for number, gap_us in enumerate(gaps_us):
        await asyncio.sleep(gap_us / 1e6)
        sent.append(now_us())
        yield number
    if error is not None:
        raise error


@settings(deadline=None)
@given(st.lists(st.integers(0, 50_000), max_size=60), st.sampled_from([0, 1, 10_000, 85_000]))
def test_every_message_is_late_by_the_same_time(gaps_us: list[int], one_way_us: int) -> None:
    async def scenario() -> None:
        sent: list[int] = []
        arrived: list[int] = []
        numbers = []
        async for number in travelled(sender(gaps_us, sent), one_way_us):
            numbers.append(number)
            arrived.append(now_us())
        assert numbers == list(range(len(gaps_us)))
        for left, came in zip(sent, arrived, strict=True):
            assert abs(came - left - one_way_us) <= 2

    run_virtual(scenario())


def test_an_error_arrives_late_and_last() -> None:
    async def scenario() -> None:
        seen = []
        began_us = now_us()
        stream = travelled(sender([0, 0, 5_000], [], ValueError("broke")), 100_000)
        for _ in range(3):
            seen.append(await anext(stream))
        with pytest.raises(ValueError, match="broke"):
            await anext(stream)
        assert seen == [0, 1, 2]
        assert abs(now_us() - began_us - 105_000) <= 2

    run_virtual(scenario())


def test_a_slow_reader_holds_the_sender_up() -> None:
    async def scenario() -> None:
        sent: list[int] = []
        stream = travelled(sender([0] * (IN_FLIGHT_MAX * 3), sent), 10_000)
        assert await anext(stream) == 0
        await asyncio.sleep(1)
        assert len(sent) <= IN_FLIGHT_MAX + 3
        await stream.aclose()

    run_virtual(scenario())


def test_leaving_early_stops_the_sender() -> None:
    async def scenario() -> None:
        sent: list[int] = []
        stream = travelled(sender([1_000] * 1_000, sent), 10_000)
        await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0)
        count = len(sent)
        await asyncio.sleep(1)
        assert len(sent) == count
        assert len(asyncio.all_tasks()) == 1

    run_virtual(scenario())


def test_travelling_costs_the_way() -> None:
    async def scenario() -> None:
        began_us = now_us()
        await travel(0)
        assert now_us() == began_us
        await travel(85_000)
        assert now_us() - began_us == 85_000

    run_virtual(scenario())
