"""gRPC channels and server options, in one place because the two ends have to match.

A Python server answers a client that pings too often with GOAWAY too_many_pings (its default is once in 300 s), so the
keepalive of our clients and what our servers permit are chosen together.
"""

import asyncio
from collections import OrderedDict

import grpc

MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""Above the largest photo (12 MiB), so that an oversize photo gets our own, helpful refusal."""
CHANNELS_MAX = 1024
LONGEST_CALL_S = 660.0
"""Longer than any request may take (600 s): a channel closed after this has no call left."""

CLIENT_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # gRPC 1.85 ends a connection by this one (default 60 s), whatever keepalive_timeout_ms says.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Only the policy retries.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
]
SERVER_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 10),
    ("grpc.keepalive_permit_without_calls", 1),
    # A bound against floods only: low values fail calls with RST_STREAM instead of letting us refuse them.
    ("grpc.max_concurrent_streams", 10_000),
    # SO_REUSEPORT would let a second router on the same port start silently.
    ("grpc.so_reuseport", 0),
]


class Channels:
    """Open channels by address. Those to workers come and go: the one unused longest is closed when there are more than
    `CHANNELS_MAX`, once its calls have ended. Those to routers of other regions are as many as regions, and stay."""

    def __init__(self) -> None:
        self._workers: OrderedDict[str, grpc.aio.Channel] = OrderedDict()
        self._routers: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def to_worker(self, address: str) -> grpc.aio.Channel:
        """The channel to host:port, opened when first needed. Not to be kept: ask again for every call."""
        channel = self._workers.get(address)
        if channel is None:
            channel = self._workers[address] = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self._workers.move_to_end(address)
        while len(self._workers) > CHANNELS_MAX:
            closing = asyncio.create_task(self._workers.popitem(last=False)[1].close(grace=LONGEST_CALL_S))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return channel

    def to_router(self, address: str) -> grpc.aio.Channel:
        """The channel to another region's router, for as long as this router runs."""
        if address not in self._routers:
            self._routers[address] = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        return self._routers[address]

    async def close(self) -> None:
        """Close them all, whatever is still under way."""
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for channel in [*self._workers.values(), *self._routers.values()]:
            await channel.close(grace=None)
        self._workers.clear()
        self._routers.clear()
