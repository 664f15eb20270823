"""Photos small enough that a job takes a fraction of a second, and files that are none."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image, ImageDraw

SMALL_PX = 96
LARGE_PX = 512
"""The longer side of an animation: a photo of this size makes the longest job."""


def photo(side_px: int = SMALL_PX, hue: int = 30) -> bytes:
    """A JPEG with soft light and a few shapes; `hue` (0 to 255) makes another picture of it."""
    light = Image.radial_gradient("L").resize((side_px, side_px))
    picture = Image.merge("RGB", (light, light.rotate(90), light.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
    draw = ImageDraw.Draw(picture)
    draw.ellipse([side_px * part for part in (0.2, 0.2, 0.6, 0.7)], fill=(200, hue, 60))
    draw.rectangle([side_px * part for part in (0.55, 0.5, 0.9, 0.95)], fill=(40, 120, hue))
    file = BytesIO()
    picture.save(file, "JPEG", quality=92)
    return file.getvalue()


def text() -> bytes:
    """A file that is no image."""
    return b"Dear router, this is a letter and no photo at all.\n" * 20


def truncated() -> bytes:
    """The first half of a photo."""
    whole = photo()
    return whole[: len(whole) // 2]


def bomb() -> bytes:
    """A sound PNG of 30,000 x 30,000 pixels, one bit each, in some 100 kB."""
    side = 30_000
    row = b"\0" * (1 + (side + 7) // 8)
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    return _png(side, side, packed)


def rotten() -> bytes:
    """A PNG whose headers and end are sound and whose pixels are not: only decoding it can tell."""
    return _png(SMALL_PX, SMALL_PX, b"these are no packed pixels " * 50)


def animated_gif() -> bytes:
    """A GIF of 10,000 frames of one pixel."""
    screen = struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + screen + frame * 10_000 + b";"


def oversized() -> bytes:
    """20 MB that begin like a photo."""
    return photo() + bytes(20_000_000)


def empty() -> bytes:
    """Nothing."""
    return b""


def _png(width: int, height: int, packed: bytes) -> bytes:
    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", packed) + part(b"IEND", b"")


BAD_PHOTOS: dict[str, tuple[Callable[[], bytes], str]] = {
    "not an image": (text, "not an image"),
    "truncated": (truncated, "truncated"),
    "30,000 x 30,000": (bomb, "30000 × 30000"),
    "animated GIF": (animated_gif, "GIF"),
    "20 MB": (oversized, "12 MiB"),
    "zero bytes": (empty, "empty"),
    "rotten pixels": (rotten, "damaged"),
}
"""What is wrong, how to make it, and what the error must say."""
