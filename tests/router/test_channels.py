"""Channels by address, and bounded."""

import asyncio

import grpc
import pytest

from router import channels
from router.channels import CLIENT_OPTIONS, MESSAGE_BYTES_MAX, SERVER_OPTIONS, Channels
from router.request_check import PHOTO_BYTES_MAX


async def test_one_channel_for_an_address() -> None:
    opened = Channels()
    assert opened.to_worker("127.0.0.1:1") is opened.to_worker("127.0.0.1:1")
    assert opened.to_worker("127.0.0.1:1") is not opened.to_worker("127.0.0.1:2")
    await opened.close()
    again = opened.to_worker("127.0.0.1:1")
    assert again.get_state() is not grpc.ChannelConnectivity.SHUTDOWN
    await opened.close()


async def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHANNELS_MAX", 3)
    opened = Channels()
    first = opened.to_worker("127.0.0.1:1")
    for port in (2, 3):
        opened.to_worker(f"127.0.0.1:{port}")
    assert opened.to_worker("127.0.0.1:1") is first, "used again, so not the oldest"
    second = opened.to_worker("127.0.0.1:2")
    opened.to_worker("127.0.0.1:4")
    assert opened.to_worker("127.0.0.1:1") is first
    assert opened.to_worker("127.0.0.1:2") is second
    await opened.close()


async def test_one_that_is_let_go_of_is_closed_when_its_calls_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHANNELS_MAX", 1)
    opened = Channels()
    first, router = opened.to_worker("127.0.0.1:1"), opened.to_router("127.0.0.1:9")
    opened.to_worker("127.0.0.1:2")
    async with asyncio.timeout(10):
        while first.get_state() is not grpc.ChannelConnectivity.SHUTDOWN:  # noqa: ASYNC110  (nothing tells it)
            await asyncio.sleep(0)
    assert opened.to_router("127.0.0.1:9") is router
    assert router.get_state() is not grpc.ChannelConnectivity.SHUTDOWN
    await opened.close()


def test_both_ends_agree() -> None:
    client, server = dict(CLIENT_OPTIONS), dict(SERVER_OPTIONS)
    # A server answers a client that pings too often with GOAWAY.
    assert int(client["grpc.keepalive_time_ms"]) > int(server["grpc.http2.min_recv_ping_interval_without_data_ms"])
    assert client["grpc.enable_retries"] == 0, "only the policy retries"
    assert server["grpc.so_reuseport"] == 0, "a taken port is told"
    assert MESSAGE_BYTES_MAX > PHOTO_BYTES_MAX * 2
