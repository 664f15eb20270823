"""The asyncio client against a router made of a script."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

import grpc
import pytest

from homeward import AsyncClient, Cancelled, Finished, InvalidRequest, NoCapacity, NotFound, Placed, Progress, RouterUnavailable

from .fake_router import OUTPUT, PATIENCE_S, FakeRouter, a_story, refuse


async def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.005)


async def test_events_and_result() -> None:
    with FakeRouter() as router:
        async with AsyncClient(router.target) as client:
            events = [event async for event in client.generate(photo=b"photo", motion="zoom")]
            assert (await client.run(photo=b"photo")).output == OUTPUT
    assert isinstance(events[-1], Finished)
    assert events[-1].motion == "zoom"
    assert len(events) == 7


async def test_leaving_the_loop_cancels_the_call() -> None:
    with FakeRouter() as router:
        router.script = router.run_forever
        async with AsyncClient(router.target) as client:
            async for event in client.generate(photo=b"photo"):
                if isinstance(event, Progress):
                    break
            await until(router.ended.is_set)


async def test_closing_the_generator_cancels_the_call() -> None:
    with FakeRouter() as router:
        router.script = router.run_forever
        async with AsyncClient(router.target) as client:
            async with contextlib.aclosing(client.generate(photo=b"photo")) as events:
                assert isinstance(await anext(events), Placed)
            await until(router.ended.is_set)


async def test_cancelling_the_task_cancels_the_call() -> None:
    with FakeRouter() as router:
        router.script = router.run_forever
        async with AsyncClient(router.target) as client:
            task = asyncio.create_task(client.run(photo=b"photo"))
            await until(router.progressed.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(router.ended.is_set)


async def test_closing_the_client_under_a_call_is_a_typed_error() -> None:
    with FakeRouter() as router:
        router.script = router.run_forever
        client = AsyncClient(router.target)
        task = asyncio.create_task(client.run(photo=b"photo", request_id="request-1"))
        await until(router.progressed.is_set)
        await client.close()
        with pytest.raises(Cancelled) as caught:
            await task
        assert caught.value.request_id == "request-1"


async def test_closing_the_client_under_a_question_is_a_typed_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = AsyncClient(f"127.0.0.1:{silent.getsockname()[1]}")
        task = asyncio.create_task(client.regions())
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(Cancelled, match="closed during the call"):
            await task


@pytest.mark.parametrize("is_used", [False, True])
async def test_a_closed_client_raises_a_typed_error(is_used: bool) -> None:
    with FakeRouter() as router:
        client = AsyncClient(router.target)
        if is_used:
            await client.regions()
        channel = client._channel
        await client.close()
        for ask in (
            lambda: client.run(photo=b"photo", request_id="request-1"),
            lambda: client.explain("request-1"),
            client.regions,
            client.workers,
        ):
            with pytest.raises(Cancelled, match="the client is closed") as caught:
                await ask()
            assert caught.value.work_began is False
        await client.close()
        assert client._channel is channel, "no new channel"
        assert router.calls == 0


async def test_typed_errors() -> None:
    with FakeRouter(refuse(grpc.StatusCode.UNAVAILABLE, "NO_CAPACITY", retry_after_s=1.25)) as router:
        async with AsyncClient(router.target) as client:
            with pytest.raises(NoCapacity) as caught:
                await client.run(photo=b"photo")
            with pytest.raises(InvalidRequest):
                client.generate(photo=b"photo", seed=-1)
    assert caught.value.retry_after_s == 1.25
    async with AsyncClient(router.target) as client:
        with pytest.raises(RouterUnavailable):
            await client.regions()


async def test_operators_questions() -> None:
    with FakeRouter() as router:
        router.known["request-1"] = a_story("request-1")
        async with AsyncClient(router.target) as client:
            assert (await client.regions()).home_region == "us-east"
            assert (await client.workers()).region == "us-east"
            assert (await client.explain("request-1")).served_region == "eu-west"
            with pytest.raises(NotFound):
                await client.explain("request-2")


def test_a_client_can_be_made_without_an_event_loop() -> None:
    client = AsyncClient("127.0.0.1:1")

    async def ask() -> None:
        async with client:
            with pytest.raises(RouterUnavailable):
                await client.regions()

    asyncio.run(ask())
