"""Photos from strangers: what is accepted, what is refused, and how fast."""

import struct
import time
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from workers.animate.photo import BYTES_MAX, PhotoRejected, decode


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    output = BytesIO()
    picture.save(output, kind, **options)
    return output.getvalue()


def gradient(width: int = 60, height: int = 40) -> Image.Image:
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray(ramp.astype(np.uint8))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    return start + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")


def webp_claiming(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    still = encoded(gradient(), "WEBP", lossless=True)[12:]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + still
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_accepts_the_three_formats(kind: str) -> None:
    pixels = decode(encoded(gradient(), kind), 512)
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(gradient()).astype(int)).mean() < 12


@pytest.mark.parametrize(
    ("size", "expected"), [((2000, 1000), (256, 512)), ((1000, 2000), (512, 256)), ((90, 70), (70, 90))]
)
def test_scales_down_but_never_up(size: tuple[int, int], expected: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG"):
        assert decode(encoded(gradient(*size), kind), 512).shape[:2] == expected


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_refuses_other_formats(kind: str) -> None:
    with pytest.raises(PhotoRejected, match="not a PNG, JPEG or WebP"):
        decode(encoded(gradient(), kind), 512)


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (b"", "empty"),
        (b"hello, this is no picture", "not a PNG, JPEG or WebP"),
        (bytes(BYTES_MAX + 1), "12 MiB"),
        (encoded(gradient(300, 300), "JPEG")[:2000], "damaged or incomplete"),
        (encoded(gradient(300, 300), "PNG")[:-400], "damaged or incomplete"),
        (encoded(gradient(8, 200)), "at least 16"),
        (encoded(gradient(20, 400)), "strip"),
        (png_claiming(5000, 4000), "16.8 megapixels"),
        (png_claiming(10_000, 10_000), "16.8 megapixels"),
    ],
)
def test_refusals_say_what_is_wrong(photo: bytes, words: str) -> None:
    with pytest.raises(PhotoRejected, match=words) as refused:
        decode(photo, 512)
    assert refused.value.field == "photo"


@pytest.mark.parametrize("claim", [png_claiming, webp_claiming])
def test_refuses_a_huge_picture_before_decoding_it(claim: Callable[[int, int], bytes]) -> None:
    photo = claim(30_000, 30_000) if claim is png_claiming else claim(16_000, 16_000)
    started_at_s = time.monotonic()
    with pytest.raises(PhotoRejected):
        decode(photo, 512)
    assert time.monotonic() - started_at_s < 0.1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_refuses_animations(kind: str) -> None:
    second = gradient().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    photo = encoded(gradient(), kind, save_all=True, append_images=[second])
    with pytest.raises(PhotoRejected, match="already an animation"):
        decode(photo, 512)


def test_takes_the_first_picture_of_a_phone_s_jpeg() -> None:
    photo = encoded(gradient(), "MPO", save_all=True, append_images=[Image.new("RGB", (60, 40))])
    assert decode(photo, 512).mean() > 100


@pytest.mark.parametrize(
    ("orientation", "shape"), [(1, (40, 60, 3)), (3, (40, 60, 3)), (6, (60, 40, 3)), (8, (60, 40, 3))]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_applies_orientation(kind: str, orientation: int, shape: tuple[int, ...]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(gradient(), kind, exif=exif.tobytes()), 512)
    assert pixels.shape == shape
    brightest = {1: -1, 3: 0, 6: -1, 8: 0}[orientation]
    rows_or_columns = pixels.mean((1, 2)) if orientation in (1, 3) else pixels.mean((0, 2))
    assert (rows_or_columns.argmax() == 0) == (brightest == 0 if orientation in (1, 3) else orientation == 6)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_ignores_damaged_exif() -> None:
    assert decode(encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), 512).shape == (40, 60, 3)


def with_mode(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        return Image.fromarray(np.full((40, 60), 0x8040, np.uint16))
    return Image.new("RGB", (60, 40), (128, 128, 128)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "I;16", "RGB"])
def test_converts_every_mode(mode: str) -> None:
    assert decode(encoded(with_mode(mode)), 512).mean() == pytest.approx(128, abs=1)


def test_converts_cmyk_jpeg() -> None:
    assert decode(encoded(with_mode("CMYK"), "JPEG"), 512).mean() == pytest.approx(128, abs=3)


def test_transparency_becomes_white() -> None:
    clear = Image.new("RGBA", (60, 40), (255, 0, 0, 0))
    assert (decode(encoded(clear), 512) == 255).all()
    palette = Image.new("P", (60, 40), 0)
    palette.putpalette([0, 0, 255])
    assert (decode(encoded(palette, transparency=0), 512) == 255).all()


DONORS = [encoded(gradient(), "PNG"), encoded(gradient(), "JPEG"), encoded(gradient(), "WEBP")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    donor=st.sampled_from(DONORS),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 200),
)
def test_damage_is_refused_or_harmless(donor: bytes, edits: list[tuple[int, int]], cut: int) -> None:
    photo = bytearray(donor)
    for place, value in edits:
        photo[place % len(photo)] = value
    try:
        result = decode(bytes(photo[: len(photo) - cut]), 64)
    except PhotoRejected:
        return
    assert result.ndim == 3
    assert max(result.shape) <= 64
