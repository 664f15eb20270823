"""Move a photo by a motion field: full-resolution frames from coefficients on a 48 x 48 grid.

Theory of operation: the coefficients say where each pixel of the photo goes (d, source to target), while a frame asks
where each of its pixels comes from. That inverse is the fixed point ``q = p - d(q)``, which converges as long as d
changes by less than its own distance (no folds); it is solved on a finer grid than the network's and only then brought
to full size, so it costs almost nothing. Colours are interpolated bicubically: bilinear frames look blurred next to
frame 0, which is the photo itself.

Drift has a velocity, which no periodic function has. Its loop is closed by fading from the photo moved by v t to the
photo moved by v (t - 1): at t = 0 and t = 1 only the photo at rest is seen.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from workers.animate.motion import displacements, positions

FIELD_SIDE = 96
"""Cells along each side of the grid on which displacements are inverted: twice the network's."""

INVERSION_STEPS = 6
"""Fixed-point iterations: the error shrinks by the slope of d (at most about 0.5) each time, to below 0.5 px at 512."""


def aspect_of(height: int, width: int) -> Tensor:
    """(1, 2): width and height over the longer of the two."""
    longer = max(height, width)
    return torch.tensor([[width / longer, height / longer]])


def inverse(displacement: Tensor, aspect: Tensor) -> Tensor:
    """Where a frame's pixels come from: displacement (1, 2, H, W) in fractions of the longer side -> -d(q), alike."""
    at = positions(displacement.shape[-2], displacement.shape[-1], aspect)
    back = -displacement
    for _ in range(INVERSION_STEPS):
        back = -look_up(displacement, at + back, aspect, mode="bilinear", outside="border")
    return back


def look_up(picture: Tensor, where: Tensor, aspect: Tensor, *, mode: str, outside: str) -> Tensor:
    """Sample picture (1, C, h, w) at positions where (1, 2, H, W), in fractions of the longer side: (1, C, H, W)."""
    grid = (where / aspect[:, :, None, None] * 2).permute(0, 2, 3, 1)
    return functional.grid_sample(picture, grid, mode=mode, padding_mode=outside, align_corners=False)


def _moved(photo: Tensor, displacement: Tensor, at: Tensor, aspect: Tensor) -> Tensor:
    back = functional.interpolate(inverse(displacement, aspect), photo.shape[-2:], mode="bicubic")
    return look_up(photo, at + back, aspect, mode="bicubic", outside="reflection")


def frames(photo: Tensor, coefficients: Tensor, count: int) -> Iterator[Tensor]:
    """Yield `count` frames of one loop, the first being the photo itself.

    photo: (3, H, W) uint8; coefficients: (5, 2, h, w), see `motion.compose`. Yields (3, H, W) uint8.
    """
    height, width = photo.shape[-2:]
    aspect = aspect_of(height, width)
    at = positions(height, width, aspect)
    still = photo[None].float()
    fine = functional.interpolate(coefficients, (FIELD_SIDE, FIELD_SIDE), mode="bicubic")[None]
    drifts = bool(coefficients[0].any())
    yield photo
    for index in range(1, count):
        time = torch.tensor([index / count])
        moved = _moved(still, displacements(fine, time)[0], at, aspect)
        if drifts:
            arriving = displacements(fine, time)[0] - fine[:, 0]
            moved = torch.lerp(moved, _moved(still, arriving, at, aspect), index / count)
        yield moved[0].round().clamp(0, 255).to(torch.uint8)


def folded_share(coefficients: Tensor, count: int) -> float:
    """Share of cells in [0, 1], over all frames, where the motion turns the picture inside out (Jacobian <= 0).

    coefficients: (5, 2, h, w) of a square photo.
    """
    moved = displacements(coefficients[None], torch.arange(count) / count)[0]
    step = 1 / coefficients.shape[-1]
    down, across = torch.gradient(moved, dim=(-2, -1))
    determinant = (1 + across[:, 0] / step) * (1 + down[:, 1] / step) - across[:, 1] / step * down[:, 0] / step
    return (determinant <= 0).float().mean().item()
