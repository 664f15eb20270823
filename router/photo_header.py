"""What a photo's headers say: format, size, frames, and whether its end is there.

Rules
-----
* Nothing is decoded and nothing is decompressed. Image libraries read metadata even when only asked for the size, and a few
  MiB of crafted metadata (compressed colour profiles, fill bytes) keep them busy for half a minute.
* The work is bounded: a walk over at most so many parts, each a few dozen bytes of it looked at.
* It may say yes to a file that cannot be decoded (the worker finds out, behind its own bounds), but not no to a sound one.

Formats: PNG third edition (W3C 2025), JPEG ITU-T T.81 annex B, WebP container (RFC 9649).
"""

import re
from dataclasses import dataclass

PARTS_MAX = 2_000
"""Metadata parts of one file. A camera writes dozens; a 12 MiB JPEG of 64 KiB segments has 200."""
DATA_PARTS_MAX = 65_536
"""Pieces of image data of one PNG: 12 MiB in pieces of 200 bytes. Encoders write 8 KiB and more."""
FILL_BYTES_MAX = 4_096
"""Bytes between two segments of a JPEG's header, where the standard allows any number."""

_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""FF00 is a stuffed byte, FFD0 to FFD7 are restarts, FFFF is fill."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Damaged(ValueError):
    """The bytes begin like a photo and cannot be one."""


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """What the headers say."""

    width: int
    height: int
    frames: int
    whole: bool
    """The end of the first picture is there."""


def read_header(photo: bytes) -> PhotoHeader | None:
    """Look at a PNG, JPEG or WebP; None for anything else. Raises `Damaged`."""
    if photo.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(photo)
    if photo.startswith(b"\xff\xd8\xff"):
        return _jpeg(photo)
    if photo.startswith(b"RIFF") and photo[8:12] == b"WEBP":
        return _webp(photo)
    return None


def _png(photo: bytes) -> PhotoHeader:
    if photo[12:16] != b"IHDR" or len(photo) < 33:
        raise Damaged
    width, height, frames = _big(photo, 16, 4), _big(photo, 20, 4), 1
    at, others, pieces, profiles, whole = 33, 0, 0, 0, False
    while at + 12 <= len(photo) and not whole:
        length, kind = _big(photo, at, 4), photo[at + 4 : at + 8]
        if kind == b"IDAT":
            pieces += 1
        else:
            others += 1
            profiles += kind == b"iCCP"
        if kind == b"acTL":
            frames = max(frames, _big(photo, at + 8, 4))
        if others > PARTS_MAX or pieces > DATA_PARTS_MAX or profiles > 1:
            raise Damaged
        at += 12 + length
        whole = kind == b"IEND" and at <= len(photo)
    if whole and pieces == 0:
        raise Damaged
    return PhotoHeader(width, height, frames, whole)


def _jpeg(photo: bytes) -> PhotoHeader:
    width = height = 0
    at = 2
    for _ in range(PARTS_MAX):
        found = _JPEG_MARKER.search(photo, at, at + FILL_BYTES_MAX)
        if found is None:
            if at + FILL_BYTES_MAX < len(photo):
                raise Damaged
            return PhotoHeader(width, height, 1, whole=False)
        marker, at = photo[found.start() + 1], found.end()
        if marker == 0xDA:
            # Image data cannot hold the end marker. What cameras append behind it (a film, a second picture) may hold anything.
            return PhotoHeader(width, height, 1, whole=photo.find(b"\xff\xd9", at) >= 0)
        if marker == 0xD9:
            raise Damaged
        if marker in _JPEG_FRAMES:
            height, width = max(height, _big(photo, at + 3, 2)), max(width, _big(photo, at + 5, 2))
        if marker not in (0x01, 0xD8):  # those two stand alone
            at += _big(photo, at, 2)
    raise Damaged


def _webp(photo: bytes) -> PhotoHeader:
    size, kind, frames = int.from_bytes(photo[4:8], "little"), photo[12:16], 1
    if len(photo) < 30:
        return PhotoHeader(0, 0, 1, whole=False)
    if kind == b"VP8 " and photo[23:26] == b"\x9d\x01\x2a":
        width, height = _little(photo, 26, 2) & 0x3FFF, _little(photo, 28, 2) & 0x3FFF
    elif kind == b"VP8L" and photo[20:21] == b"\x2f":
        bits = _little(photo, 21, 4)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        width, height = _little(photo, 24, 3) + 1, _little(photo, 27, 3) + 1
        if photo[20] & 0x02:
            frames = _webp_frames(photo)
    else:
        raise Damaged
    return PhotoHeader(width, height, frames, whole=len(photo) >= 8 + size)


def _webp_frames(photo: bytes) -> int:
    """Frames of an animation; at least 1, and no more than can be counted in `PARTS_MAX` parts."""
    at, frames = 12, 0
    for _ in range(PARTS_MAX):
        frames += photo[at : at + 4] == b"ANMF"
        length = _little(photo, at + 4, 4)
        at += 8 + length + length % 2
        if at >= len(photo):
            break
    return max(1, frames)


def _big(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
