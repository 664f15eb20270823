"""Photos for tests: sound ones, and every kind of bad one, made here byte by byte."""

import io
import struct
import zlib

from PIL import Image


def encoded(form: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    """A noisy picture (so that it does not compress to nothing) in this format."""
    out = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(out, form, **options)
    return out.getvalue()


def png() -> bytes:
    """A small PNG, the same in every run."""
    return png_of(header(2, 2), chunk(b"IDAT", zlib.compress(b"\0\1\2\3\4\5\6" * 2)), chunk(b"IEND", b""))


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int) -> bytes:
    """The header chunk of an RGB PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png_of(*chunks: bytes) -> bytes:
    """A PNG of these chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def animation(form: str, frames: int, size: int = 8) -> bytes:
    """An animation whose frames all differ."""
    pictures = [Image.new("P" if form == "GIF" else "RGB", (size, size), index % 250) for index in range(frames)]
    if form != "GIF":
        for index, picture in enumerate(pictures):
            picture.putpixel((index % size, index // size % size), (255, index % 256, 255))
    out = io.BytesIO()
    pictures[0].save(out, form, save_all=True, append_images=pictures[1:], duration=20)
    return out.getvalue()
