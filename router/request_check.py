"""Is this a request at all? Checks that cost microseconds, before anything is placed.

The photo is looked at, not decoded: format, dimensions and whether its last bytes are there (`photo_header.py`). Decoding an
untrusted image is the worker's business, behind its own bounds.
"""

import math
import re

from homeward.v1 import generation_pb2
from router.photo_header import Damaged, read_header
from router.policy.vocabulary import Outcome
from router.status import RequestError, invalid

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
RESERVATION_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MOTION_NAME = re.compile(r"[a-z0-9-]{0,32}")
TIMEOUT_S_MAX = 600
ROUNDING_S = 3
EXCLUDED_WORKERS_MAX = 64
PHOTO_BYTES_MAX = 12 * 1024 * 1024
PHOTO_PIXELS_MAX = 16_800_000
_SEND = "send one PNG, JPEG or WebP image"


def check_deadline(time_left_s: float | None) -> float:
    """The request's time in seconds. Raises `RequestError` when the deadline is missing, past or absurd."""
    if time_left_s is None or math.isinf(time_left_s):
        raise invalid("deadline", f"is missing: set a gRPC deadline of at most {TIMEOUT_S_MAX} s")
    if time_left_s <= 0:
        raise RequestError(Outcome.DEADLINE_EXCEEDED, "the deadline has already passed")
    # gRPC rounds a timeout on its way.
    if time_left_s > TIMEOUT_S_MAX + ROUNDING_S:
        raise invalid("deadline", f"is {time_left_s:.0f} s away: at most {TIMEOUT_S_MAX} s are allowed")
    return time_left_s


def check_request(request: generation_pb2.GenerateRequest, home_region: str, known: tuple[str, ...]) -> None:
    """Raise `RequestError` naming the first field that is wrong."""
    if not REQUEST_ID.fullmatch(request.request_id):
        raise invalid("request_id", "must be 8 to 64 characters of A-Z a-z 0-9 . _ -")
    if not MODEL_NAME.fullmatch(request.model):
        raise invalid("model", "must be the name of a model, for example 'animate'")
    if request.home_region and request.home_region != home_region:
        if request.home_region in known:
            there = f"is {request.home_region!r}, but this router serves {home_region!r}"
            raise invalid("home_region", f"{there}: call that region's router")
        raise invalid("home_region", f"{request.home_region!r} is unknown; the fleet has {', '.join(known)}")
    if request.WhichOneof("parameters") == "animate":
        _check_animate(request.animate)
    check_photo(request.photo)


def _check_animate(animate: generation_pb2.AnimateParameters) -> None:
    if not MOTION_NAME.fullmatch(animate.motion):
        raise invalid("animate.motion", "must be the name of a motion, for example 'sway', or empty for 'auto'")
    if animate.HasField("strength") and not 0.0 <= animate.strength <= 2.0:
        raise invalid("animate.strength", f"must be from 0 to 2, not {animate.strength:g}")
    if not -360.0 <= animate.direction_degrees <= 360.0:
        raise invalid("animate.direction_degrees", f"must be from -360 to 360, not {animate.direction_degrees:g}")


def check_photo(photo: bytes) -> None:
    """Raise `RequestError` unless the bytes look like one whole image of an allowed format and size."""
    if not photo:
        raise invalid("photo", f"is empty: {_SEND}")
    if len(photo) > PHOTO_BYTES_MAX:
        raise invalid("photo", f"is {len(photo) / 2**20:.1f} MiB: at most {PHOTO_BYTES_MAX // 2**20} MiB are allowed")
    try:
        header = read_header(photo)
    except Damaged:
        raise invalid("photo", f"is damaged: {_SEND}") from None
    if header is None:
        kind = "an animated or still GIF" if photo[:6] in (b"GIF87a", b"GIF89a") else "not an image that is accepted"
        raise invalid("photo", f"is {kind}: {_SEND}")
    width, height = header.width, header.height
    if width * height > PHOTO_PIXELS_MAX:
        limit = f"at most {PHOTO_PIXELS_MAX / 1e6:.1f} megapixels are allowed"
        raise invalid("photo", f"is {width} × {height} pixels: {limit}")
    # Phones write JPEGs with a preview or a film behind the photo; the first picture is the photo and counts as one frame.
    if header.frames != 1:
        raise invalid("photo", f"has {header.frames} frames: {_SEND} without animation")
    if not header.whole:
        raise invalid("photo", "is truncated: its end is missing; send the whole file")
    if width == 0 or height == 0:
        raise invalid("photo", f"is damaged: {_SEND}")
