"""Requests that are none: each is refused with the field that is wrong, and quickly."""

import math
import random
import struct
import time
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeward.v1 import generation_pb2
from router.photo_header import read_header
from router.policy.vocabulary import Outcome
from router.request_check import PHOTO_BYTES_MAX, PHOTO_PIXELS_MAX, check_deadline, check_photo, check_request
from router.status import RequestError
from tests.router.photos import animation, chunk, encoded, header, png, png_of

HOSTILE_MS_MAX = 500
"""The aim is 100 ms; the bound leaves air for a loaded machine."""

JPEG, PNG, WEBP = encoded("JPEG"), encoded("PNG"), encoded("WEBP")
MPO = animation("MPO", 2, 32)


def fields_of(error: RequestError) -> list[str]:
    return [violation.field for violation in error.violations]


def fields_at_fault(photo: bytes) -> list[str]:
    """Fields named by the refusal, none if the photo passes."""
    try:
        check_photo(photo)
    except RequestError as error:
        return fields_of(error)
    return []


def refused(photo: bytes) -> str:
    """Check a photo that must be refused; return why."""
    began = time.perf_counter()
    with pytest.raises(RequestError) as error:
        check_photo(photo)
    took_ms = (time.perf_counter() - began) * 1e3
    print(f"{len(photo)} bytes refused in {took_ms:.2f} ms: {error.value.message}")  # noqa: T201
    assert took_ms < HOSTILE_MS_MAX
    assert error.value.outcome is Outcome.INVALID
    assert fields_of(error.value) == ["photo"]
    assert error.value.message.startswith("photo: ")
    assert "\n" not in error.value.message
    return error.value.message


def webp_canvas(width: int, height: int) -> bytes:
    """An animated WebP whose header claims another canvas."""
    photo = bytearray(animation("WEBP", 3, 16))
    at = photo.index(b"VP8X")
    photo[at + 12 : at + 15] = (width - 1).to_bytes(3, "little")
    photo[at + 15 : at + 18] = (height - 1).to_bytes(3, "little")
    return bytes(photo)


@pytest.mark.parametrize("photo", [
    png(), PNG, JPEG, WEBP, encoded("WEBP", lossless=True), encoded("JPEG", progressive=True), encoded("PNG", (1, 1)),
    encoded("JPEG", (3_000, 2_000), quality=95), encoded("JPEG", exif=b"Exif\0\0" + bytes(2_000)),
    # A phone's second picture, a film behind the photo, what an editor leaves behind a cropped screenshot.
    MPO, *(JPEG + random.Random(seed).randbytes(200_000) for seed in range(8)), PNG + bytes(9_000),
])  # fmt: skip
def test_sound_photos(photo: bytes) -> None:
    check_photo(photo)


def webp_of_many_frames() -> bytes:
    few = animation("WEBP", 2, 16)
    at = few.index(b"ANMF")
    size = struct.unpack_from("<I", few, at + 4)[0]
    body = few[8:at] + few[at : at + 8 + size + size % 2] * 100_000
    return b"RIFF" + struct.pack("<I", len(body)) + body


TEXT, PROFILE = zlib.compress(bytes(1_000_000)), zlib.compress(bytes(900_000))
END = chunk(b"IDAT", b"") + chunk(b"IEND", b"")
NO_PHOTOS: dict[str, Callable[[], bytes]] = {
    "zero bytes": lambda: b"",
    "20 MB": lambda: JPEG[:2] + bytes(20_000_000),
    "one byte too many": lambda: PNG + bytes(PHOTO_BYTES_MAX + 1 - len(PNG)),
    "text": lambda: b"hello, router " * 1_000,
    "a page": lambda: b"<!DOCTYPE html><html></html>",
    "BMP": lambda: encoded("BMP"),
    "TIFF": lambda: encoded("TIFF"),
    "still GIF": lambda: animation("GIF", 1),
    "GIF of 10,000 frames": lambda: animation("GIF", 10_000),
    "animated PNG": lambda: animation("PNG", 50, 16),
    "animated WebP": lambda: animation("WEBP", 50, 16),
    "WebP of 100,000 frames": lambda: webp_of_many_frames(),
    "30,000 x 30,000": lambda: png_of(header(30_000, 30_000), END),
    "10,000 x 10,000": lambda: png_of(header(10_000, 10_000), END),
    "2^32 - 1 squared": lambda: png_of(header(2**32 - 1, 2**32 - 1), END),
    "no pixels": lambda: png_of(header(0, 7), END),
    "WebP canvas of 2^24": lambda: webp_canvas(2**24, 2**24),
    "WebP canvas of 16383": lambda: webp_canvas(16_383, 16_383),
    "PNG without a picture": lambda: png_of(header(2, 2), chunk(b"IEND", b"")),
    "PNG without a header": lambda: png_of(END),
    # Each of these kept Pillow busy for between 0.3 and 34 seconds.
    "PNG of a million empty parts": lambda: png_of(header(2, 2), chunk(b"prIv", b"") * 900_000, END),
    "PNG of 7,000 colour profiles": lambda: png_of(header(2, 2), chunk(b"iCCP", b"a\0\0" + PROFILE) * 7_000, END),
    "PNG of 9,000 compressed texts": lambda: png_of(header(2, 2), chunk(b"zTXt", b"a\0\0" + TEXT) * 9_000, END),
    "PNG of profiles behind the picture": lambda: png_of(
        header(2, 2), chunk(b"IDAT", b""), chunk(b"iCCP", b"a\0\0" + PROFILE) * 2, END
    ),
    "PNG in a million pieces": lambda: png_of(header(2, 2), chunk(b"IDAT", b"") * 1_000_000, chunk(b"IEND", b"")),
    "JPEG of 3 million comments": lambda: JPEG[:2] + b"\xff\xfe\0\2" * 3_000_000 + JPEG[2:],
    "JPEG of 12 MB fill": lambda: JPEG[:2] + b"\xff" * 12_000_000 + JPEG[2:],
    "JPEG of 12 MB nothing": lambda: JPEG[:3] + bytes(12_000_000),
    "JPEG of endless image data": lambda: JPEG[:-2] + b"\xff\0" * 5_000_000,
    "JPEG without a picture": lambda: b"\xff\xd8\xff\xd9",
}


@pytest.mark.parametrize("what", list(NO_PHOTOS))
def test_what_is_no_photo(what: str) -> None:
    refused(NO_PHOTOS[what]())


def test_the_refusal_says_what_is_wrong() -> None:
    assert "is empty" in refused(b"")
    assert "19.1 MiB: at most 12 MiB" in refused(JPEG[:2] + bytes(20_000_000))
    assert "GIF" in refused(animation("GIF", 3))
    assert "30000 × 30000 pixels: at most 16.8 megapixels" in refused(png_of(header(30_000, 30_000)))
    assert "50 frames" in refused(animation("PNG", 50, 16))
    assert "truncated" in refused(JPEG[: len(JPEG) // 2])


@pytest.mark.parametrize("form", ["JPEG", "progressive", "PNG", "WEBP", "MPO"])
def test_every_truncation_is_found(form: str) -> None:
    photo = {"JPEG": JPEG, "progressive": encoded("JPEG", progressive=True), "PNG": PNG, "WEBP": WEBP, "MPO": MPO}[form]
    # An MPO's first picture is the photo: it is whole once its own end is there.
    end = photo.index(b"\xff\xd9") + 2 if form == "MPO" else len(photo)
    for cut in range(1, end):
        with pytest.raises(RequestError) as error:
            check_photo(photo[:cut])
        assert fields_of(error.value) == ["photo"], cut


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([JPEG, PNG, WEBP, MPO]), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8), st.data()
)
def test_damaged_bytes_break_nothing(photo: bytes, changes: list[tuple[int, int]], data: st.DataObject) -> None:
    damaged = bytearray(photo[: data.draw(st.integers(0, len(photo)))])
    for at, value in changes:
        if damaged:
            damaged[at % len(damaged)] = value
    assert fields_at_fault(bytes(damaged)) in ([], ["photo"])


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBP", b"GIF89a"]))
def test_random_bytes_are_no_photo_or_a_tiny_one(tail: bytes, start: bytes) -> None:
    assert fields_at_fault(start + tail) in ([], ["photo"])


@settings(deadline=None)
@given(st.integers(1, 16_383), st.integers(1, 16_383))
def test_pixels_are_counted_for_every_format(width: int, height: int) -> None:
    photo = png_of(header(width, height), chunk(b"IDAT", b""), chunk(b"IEND", b""))
    if width * height <= PHOTO_PIXELS_MAX:
        check_photo(photo)
    else:
        refused(photo)


def test_sizes_are_read_from_every_format() -> None:
    for form in ("JPEG", "PNG", "WEBP"):
        for options in ({}, {"lossless": True}) if form == "WEBP" else ({},):
            photo = encoded(form, (1_234, 567), **options)
            seen = read_header(photo)
            assert seen is not None
            assert (seen.width, seen.height, seen.frames, seen.whole) == (1_234, 567, 1, True), (form, options)


@pytest.mark.parametrize(
    ("time_left_s", "outcome", "says"),
    [
        (None, Outcome.INVALID, "is missing"),
        (math.inf, Outcome.INVALID, "is missing"),
        (0.0, Outcome.DEADLINE_EXCEEDED, "already passed"),
        (-5.0, Outcome.DEADLINE_EXCEEDED, "already passed"),
        (604.0, Outcome.INVALID, "at most 600 s"),
        (1e12, Outcome.INVALID, "at most 600 s"),
    ],
)
def test_deadlines_that_are_none(time_left_s: float | None, outcome: Outcome, says: str) -> None:
    with pytest.raises(RequestError, match=says) as error:
        check_deadline(time_left_s)
    assert error.value.outcome is outcome
    assert fields_of(error.value) == (["deadline"] if outcome is Outcome.INVALID else [])


@settings(deadline=None)
@given(st.floats(0.001, 600.0))
def test_deadlines_that_are(time_left_s: float) -> None:
    assert check_deadline(time_left_s) == time_left_s


def request(**changes: object) -> generation_pb2.GenerateRequest:
    usual: dict[str, object] = {"request_id": "request-1", "model": "animate", "photo": png()}
    return generation_pb2.GenerateRequest(**(usual | changes))  # type: ignore[arg-type]


def animate(**fields: object) -> generation_pb2.GenerateRequest:
    return request(animate=generation_pb2.AnimateParameters(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("request_id", request(request_id="")),
        ("request_id", request(request_id="seven-7")),
        ("request_id", request(request_id="x" * 65)),
        ("request_id", request(request_id="with space")),
        ("request_id", request(request_id="line\nbreak")),
        ("request_id", request(request_id="trailing-1\n")),
        ("request_id", request(request_id="ünïcödé-1")),
        ("request_id", request(request_id="{braces}-1")),
        ("model", request(model="")),
        ("model", request(model="Animate")),
        ("model", request(model="../animate")),
        ("model", request(model="a" * 65)),
        ("model", request(model="animate\n")),
        ("home_region", request(home_region="mars")),
        ("home_region", request(home_region="eu-west")),
        ("animate.motion", animate(motion="x" * 33)),
        ("animate.motion", animate(motion="Sway!")),
        ("animate.strength", animate(strength=float("nan"))),
        ("animate.strength", animate(strength=-0.1)),
        ("animate.strength", animate(strength=2.1)),
        ("animate.strength", animate(strength=float("inf"))),
        ("animate.direction_degrees", animate(direction_degrees=float("nan"))),
        ("animate.direction_degrees", animate(direction_degrees=float("-inf"))),
        ("animate.direction_degrees", animate(direction_degrees=361.0)),
        ("photo", request(photo=b"")),
    ],
)
def test_a_wrong_field_is_named(field: str, bad: generation_pb2.GenerateRequest) -> None:
    with pytest.raises(RequestError) as error:
        check_request(bad, "us-east", ("eu-west", "us-east"))
    assert error.value.outcome is Outcome.INVALID
    assert fields_of(error.value) == [field]
    assert error.value.message.startswith(f"{field}: ")


@settings(deadline=None)
@given(
    st.from_regex(r"\A[A-Za-z0-9._-]{8,64}\Z"),
    st.from_regex(r"\A[a-z0-9-]{0,32}\Z"),
    st.floats(0.0, 2.0, width=32),
    st.floats(-360.0, 360.0, width=32),
    st.integers(0, 2**64 - 1),
    st.sampled_from(["", "us-east"]),
)
def test_every_right_request_passes(
    request_id: str, motion: str, strength: float, direction_degrees: float, seed: int, home_region: str
) -> None:
    right = animate(motion=motion, strength=strength, direction_degrees=direction_degrees)
    right.request_id, right.seed, right.home_region = request_id, seed, home_region
    check_request(right, "us-east", ("eu-west", "us-east"))


def test_a_known_but_other_region_says_what_to_do() -> None:
    with pytest.raises(RequestError, match="call that region's router"):
        check_request(request(home_region="eu-west"), "us-east", ("eu-west", "us-east"))
    with pytest.raises(RequestError, match="the fleet has eu-west, us-east"):
        check_request(request(home_region="mars"), "us-east", ("eu-west", "us-east"))
