"""What leaves the SDK: requests, checked before they are sent, and the options of the channel they travel on.

The checks repeat the bounds of `generation.proto` that need no model, so that a wrong request costs no round trip and no
upload of 12 MiB. Everything else (models, motions, whether the bytes are a photo) is the router's and the worker's to say.
"""

import math

from homeward.errors import InvalidRequest, Violation
from homeward.request_ids import is_request_id, new_request_id
from homeward.v1 import generation_pb2

PHOTO_BYTES_MAX = 12 * 1024 * 1024
TIMEOUT_S_MAX = 600.0
MODEL_LENGTH_MAX = 64
MOTION_LENGTH_MAX = 32  # what a router takes
REGION_LENGTH_MAX = 64
SEED_MAX = 2**64 - 1
STRENGTH_MAX = 2.0
DIRECTION_DEGREES_MAX = 360.0

MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # a photo of 12 MiB and its envelope fit with room to spare

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Only the router retries. Off means no retry of gRPC's own either.
    ("grpc.enable_retries", 0),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A job can be silent for many seconds while it waits; a dead connection must not look like a long wait.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC 1.85 ends a connection by this one (default 60 s), whatever keepalive_timeout_ms says.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # gRPC's default is to be silent for up to two minutes after failed connects; a restarted router is back in seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A gateway and its router share a region: never through the HTTP proxy that an environment variable names.
    ("grpc.enable_http_proxy", 0),
)


def build_request(
    *,
    model: str,
    photo: bytes,
    motion: str = "",
    strength: float | None = None,
    direction_degrees: float = 0.0,
    seed: int = 0,
    timeout_s: float = 120.0,
    request_id: str | None = None,
    home_region: str = "",
) -> generation_pb2.GenerateRequest:
    """Check everything and build the message. Raises `InvalidRequest`, which names every wrong field at once."""
    if request_id is None:
        request_id = new_request_id()
    found = [
        violation
        for violation in (
            _check_text("model", model, MODEL_LENGTH_MAX, may_be_empty=False),
            _check_photo(photo),
            _check_text("animate.motion", motion, MOTION_LENGTH_MAX),
            _check_number("animate.strength", 1.0 if strength is None else strength, 0.0, STRENGTH_MAX),
            _check_number("animate.direction_degrees", direction_degrees, -DIRECTION_DEGREES_MAX, DIRECTION_DEGREES_MAX),
            _check_seed(seed),
            check_timeout(timeout_s),
            _check_request_id(request_id),
            _check_text("home_region", home_region, REGION_LENGTH_MAX),
        )
        if violation is not None
    ]
    if found:
        raise invalid_request(tuple(found), request_id if isinstance(request_id, str) else "")
    request = generation_pb2.GenerateRequest(
        request_id=request_id, model=model, photo=bytes(photo), seed=seed, home_region=home_region
    )
    request.animate.motion = motion
    request.animate.direction_degrees = direction_degrees
    if strength is not None:
        request.animate.strength = strength
    return request


def invalid_request(violations: tuple[Violation, ...], request_id: str = "") -> InvalidRequest:
    """Build the error of a request that was not sent."""
    message = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return InvalidRequest(message, request_id=request_id, violations=violations, work_began=False)


def check_timeout(timeout_s: float) -> Violation | None:
    """Check a time limit: above 0 and at most 600 s."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or math.isnan(timeout_s):
        return Violation("timeout_s", f"must be a number of seconds, not {timeout_s!r}")
    if not 0 < timeout_s <= TIMEOUT_S_MAX:
        return Violation("timeout_s", f"must be above 0 and at most {TIMEOUT_S_MAX:g} seconds, not {timeout_s:g}")
    return None


def _check_photo(photo: object) -> Violation | None:
    if not isinstance(photo, bytes | bytearray | memoryview):
        return Violation("photo", f"must be the bytes of an image file, not {type(photo).__name__}")
    size_bytes = photo.nbytes if isinstance(photo, memoryview) else len(photo)
    if size_bytes == 0:
        return Violation("photo", "is empty; send a PNG, JPEG or WebP file")
    if size_bytes > PHOTO_BYTES_MAX:
        size_mib = size_bytes / 2**20
        return Violation("photo", f"is {size_mib:.1f} MiB; at most 12 MiB are allowed: scale it down or save it as JPEG")
    return None


def _check_text(name: str, text: object, length_max: int, may_be_empty: bool = True) -> Violation | None:
    if not isinstance(text, str):
        return Violation(name, f"must be a string, not {type(text).__name__}")
    if not text and not may_be_empty:
        return Violation(name, "is empty; name one")
    if len(text) > length_max:
        return Violation(name, f"has {len(text)} characters; at most {length_max} are allowed")
    if not text.isprintable():
        return Violation(name, "has characters that cannot be printed")
    return None


def _check_number(name: str, value: object, low: float, high: float) -> Violation | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Violation(name, f"must be a number, not {type(value).__name__}")
    if not low <= value <= high:  # NaN fails this too
        return Violation(name, f"must be between {low:g} and {high:g}, not {value:g}")
    return None


def _check_seed(seed: object) -> Violation | None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        return Violation("seed", f"must be a whole number, not {type(seed).__name__}")
    if not 0 <= seed <= SEED_MAX:
        return Violation("seed", f"must be between 0 and 2⁶⁴ - 1, not {seed}")
    return None


def _check_request_id(request_id: object) -> Violation | None:
    if isinstance(request_id, str) and is_request_id(request_id):
        return None
    return Violation("request_id", "must be 8 to 64 characters of A-Z a-z 0-9 . _ -; leave it out to get one made")
