"""gRPC channels and server options, in one place because the two ends have to match.

A Python server answers a client that pings too often with GOAWAY too_many_pings (its default is once in 300 s), so the
keepalive of our clients and what our servers permit are chosen together.
"""

from collections import OrderedDict

import grpc

MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""Above the largest photo (12 MiB), so that an oversize photo gets our own, helpful refusal."""
CHANNELS_MAX = 1024

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
    """Open channels by address; the one unused longest is closed when there are more than `CHANNELS_MAX`."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, grpc.aio.Channel] = OrderedDict()
        self._closing: list[grpc.aio.Channel] = []

    def to(self, address: str) -> grpc.aio.Channel:
        """The channel to host:port, opened when first needed."""
        channel = self._open.get(address)
        if channel is None:
            channel = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
            self._open[address] = channel
        self._open.move_to_end(address)
        while len(self._open) > CHANNELS_MAX:
            self._closing.append(self._open.popitem(last=False)[1])
        return channel

    async def close(self) -> None:
        """Close them all."""
        for channel in [*self._open.values(), *self._closing]:
            await channel.close(grace=None)
        self._open.clear()
        self._closing.clear()
