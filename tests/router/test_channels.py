"""Channels by address, and bounded."""

import grpc
import pytest

from router import channels
from router.channels import CLIENT_OPTIONS, MESSAGE_BYTES_MAX, SERVER_OPTIONS, Channels
from router.request_check import PHOTO_BYTES_MAX


async def test_one_channel_for_an_address() -> None:
    opened = Channels()
    assert opened.to("127.0.0.1:1") is opened.to("127.0.0.1:1")
    assert opened.to("127.0.0.1:1") is not opened.to("127.0.0.1:2")
    await opened.close()
    again = opened.to("127.0.0.1:1")
    assert again.get_state() is not grpc.ChannelConnectivity.SHUTDOWN
    await opened.close()


async def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHANNELS_MAX", 3)
    opened = Channels()
    first = opened.to("127.0.0.1:1")
    for port in (2, 3):
        opened.to(f"127.0.0.1:{port}")
    assert opened.to("127.0.0.1:1") is first, "used again, so not the oldest"
    second = opened.to("127.0.0.1:2")
    opened.to("127.0.0.1:4")
    assert opened.to("127.0.0.1:1") is first
    assert opened.to("127.0.0.1:2") is second
    await opened.close()


def test_both_ends_agree() -> None:
    client, server = dict(CLIENT_OPTIONS), dict(SERVER_OPTIONS)
    # A server answers a client that pings too often with GOAWAY.
    assert int(client["grpc.keepalive_time_ms"]) > int(server["grpc.http2.min_recv_ping_interval_without_data_ms"])
    assert client["grpc.enable_retries"] == 0, "only the policy retries"
    assert server["grpc.so_reuseport"] == 0, "a taken port is told"
    assert MESSAGE_BYTES_MAX > PHOTO_BYTES_MAX * 2
