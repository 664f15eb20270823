"""Options of every gRPC connection a worker has: matched keepalive, bounded messages.

Half-open connections are noticed within 15 s: a ping after 10 s of silence, 5 s to answer it. A server that tolerates fewer
pings than its clients send closes the connection with `too_many_pings` (Python's default tolerates one in 300 s), so the
server's limit is half of the clients' interval.
"""

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""A photo has at most 12 MiB; the rest of a request is far below 1 MiB."""

METADATA_BYTES_MAX = 8 * 1024
STREAMS_PER_CONNECTION_MAX = 4_096
"""Only a bound: shedding is the application's business, because this limit fails calls with RST_STREAM."""

_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # gRPC 1.85 ends a connection by this one (default 60 s), whatever keepalive_timeout_ms says.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

CHANNEL_OPTIONS = (
    *_KEEPALIVE,
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Each attempt to attach connects afresh: gRPC's own backoff between connections grows to two minutes.
    ("grpc.use_local_subchannel_pool", 1),
    # Routers are neighbours; a proxy of the environment leads out of the region.
    ("grpc.enable_http_proxy", 0),
)

SERVER_OPTIONS = (
    *_KEEPALIVE,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 32),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    # Two workers on one port must be an error, not a lottery.
    ("grpc.so_reuseport", 0),
)
