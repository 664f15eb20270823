"""What is in an animation."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def frames_of(animation: bytes) -> NDArray[np.int16]:
    """Decode to (T, H, W, 3), values 0 to 255."""
    with Image.open(BytesIO(animation)) as picture:
        assert picture.format == "WEBP"
        frames = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB"), dtype=np.int16))
    return np.stack(frames)


def pixels_of(photo: bytes) -> NDArray[np.int16]:
    """Decode a photo to (H, W, 3)."""
    with Image.open(BytesIO(photo)) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.int16)


def difference(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """Mean absolute difference, 0 to 255."""
    return float(np.abs(one - other).mean())
