"""Read a user's photo safely: bounded work, whatever the bytes.

Rules
-----
* PNG, JPEG and WebP only; no other decoder of Pillow ever sees the bytes.
* The size is checked from the header before any pixel is decoded.
* One picture per file. The exception is a JPEG with further pictures behind the first (MPO: gain maps and depth maps
  of phones), where the first is the photo.
* EXIF orientation is applied, transparency is laid on white, and all else (EXIF, GPS, text, colour profiles) is
  dropped. Colours are taken to be sRGB.
"""

import struct
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP")
BYTES_MAX = 12 * 2**20
PIXELS_MAX = 2**24
"""16.8 megapixels: a phone's photo, and 67 MB decoded with transparency."""
SIDE_PX_MIN = 16
ASPECT_MAX = 8.0
"""Longest side over shortest; a longer strip would be less than 64 px high in the animation."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, Warning)
"""What Pillow's decoders raise on damaged files (warnings where the interpreter turns them into errors)."""


class InputRejected(ValueError):
    """A request that cannot be carried out as given; nothing was generated. `field` names the argument at fault."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class PhotoRejected(InputRejected):
    """The photo cannot be used. The message says what is wrong and what to do."""

    def __init__(self, message: str, field: str = "photo") -> None:
        super().__init__(message, field)


def decode(photo: bytes, side_px_max: int) -> NDArray[np.uint8]:
    """Decode and scale down to at most `side_px_max` on the longer side (never up).

    Returns (H, W, 3) uint8 RGB. Raises PhotoRejected.
    """
    if not photo:
        raise PhotoRejected("The photo is empty (0 bytes). Send the contents of a PNG, JPEG or WebP file.")
    if len(photo) > BYTES_MAX:
        sizes = f"{len(photo) / 2**20:.1f} MiB; at most {BYTES_MAX >> 20} MiB are accepted"
        raise PhotoRejected(f"The photo has {sizes}. Save it smaller.")
    picture = _open(photo)
    try:
        picture.draft(None, (2 * side_px_max, 2 * side_px_max))  # JPEG decodes at a half, quarter or eighth for less
        picture.load()
        picture = _blendable(picture)
        picture.thumbnail((side_px_max, side_px_max), Image.Resampling.LANCZOS, reducing_gap=3.0)
        picture = _on_white(_upright(picture))
        return np.array(picture, dtype=np.uint8)
    except _BROKEN as error:
        raise PhotoRejected(f"The photo is damaged or incomplete ({error}). Export or upload it again.") from error


def _open(photo: bytes) -> Image.Image:
    """Read the header only and check what it says."""
    try:
        picture = Image.open(BytesIO(photo), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise PhotoRejected("The photo is not a PNG, JPEG or WebP file. Convert it to one of these.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoRejected(f"The photo has far too many pixels; at most {_megapixels()} are accepted.") from error
    except _BROKEN as error:
        raise PhotoRejected(f"The photo's header is damaged ({error}). Export or upload it again.") from error
    width, height = picture.size
    size = f"The photo has {width} x {height} pixels"
    if width * height > PIXELS_MAX:
        raise PhotoRejected(f"{size}; at most {_megapixels()} are accepted. Scale it down.")
    if min(width, height) < SIDE_PX_MIN:
        raise PhotoRejected(f"{size}; each side needs at least {SIDE_PX_MIN}. Send a larger one.")
    if max(width, height) > ASPECT_MAX * min(width, height):
        raise PhotoRejected(f"{size}, too long a strip; at most {ASPECT_MAX:g} to 1 is accepted. Crop it.")
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        raise PhotoRejected("The file is already an animation. Send a single picture.")
    return picture


def _megapixels() -> str:
    return f"{PIXELS_MAX / 1e6:.1f} megapixels"


def _blendable(picture: Image.Image) -> Image.Image:
    """A mode whose values can be averaged, with the original's EXIF: colours of a palette cannot."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int32)  # 16-bit grey, whose upper byte is what we can show
        grey = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
        grey.info = picture.info
        return grey
    if picture.mode in ("L", "RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; damaged EXIF counts as none, since the pixels are fine."""
    try:
        return ImageOps.exif_transpose(picture)
    except _BROKEN:
        return picture
