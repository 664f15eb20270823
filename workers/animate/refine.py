"""Repairs of generated factors that need the photo's own edges or plain geometry, not a network.

* A rubber sheet must be allowed to stretch. Regions that turn or grow get a wide soft edge, and their pivots are made
  to agree with their neighbours, weighted by region: two pivots within one thing would tear it.
* Drift fades between two positions of the same texture. That is invisible in clouds and water but shows everything
  with an edge twice, so drift keeps away from strong edges by the distance that it travels. Waves keep away from the
  strongest edges, because a bent rim or shore looks worse than still water beside it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from workers.animate.motion import PIVOT, REGION, Motion, soften

BLUR_PASSES = {Motion.SPIN: 10, Motion.PULSE: 8, Motion.PARALLAX: 5, Motion.ZOOM: 5, Motion.RIPPLE: 1, Motion.SWAY: 2}
"""Each pass widens an edge by about one cell of 48 in the root of their number: ten passes make it about three wide."""


class Guard(NamedTuple):
    """How a motion keeps away from edges: it gives way from one contrast on and is gone at the other.

    Contrast is a difference of brightness in [0, 1] between neighbours among 96.
    """

    reach_px: int  # odd: side of the neighbourhood, in pixels of 96, in which an edge counts
    contrast_from: float
    contrast_to: float


GUARDS = {
    # Twice the way that drift travels. Contrasts chosen by eye, so that outlines against a sky no longer show twice.
    Motion.DRIFT: Guard(9, 0.06, 0.16),
    # By eye: waves may cross reflections but should not bend the rim of a cup.
    Motion.RIPPLE: Guard(5, 0.12, 0.30),
}


def refine(factors: Tensor, photo: Tensor, motion: Motion) -> Tensor:
    """Factors (B, 13, 48, 48) of one motion and their photos (B, 3, 96, 96) in [-1, 1] -> repaired factors."""
    region = ((factors[:, REGION] + 1) / 2).clamp(0, 1)
    pivot = factors[:, PIVOT]
    if motion in (Motion.SPIN, Motion.PULSE):
        total = _blur(region, 2 * BLUR_PASSES[motion]) + 1e-3
        pivot = _blur(region * pivot, 2 * BLUR_PASSES[motion]) / total
    if motion in GUARDS:
        region = soften(region * _calm(photo, GUARDS[motion]))
    region = _blur(region, BLUR_PASSES.get(motion, 0))
    refined = factors.clone()
    refined[:, REGION], refined[:, PIVOT] = 2 * region - 1, pivot
    return refined


def drift_texture(factors: Tensor, photo: Tensor) -> Tensor:
    """Texture that a drift would carry, as mean contrast in [0, 255] over the picture: (B,), about 0 for a blank sky.

    factors: (B, 13, 48, 48) before or after `refine`; photo: (B, 3, 96, 96) in [-1, 1].
    """
    region = ((refine(factors, photo, Motion.DRIFT)[:, REGION] + 1) / 2).clamp(0, 1)
    reach = GUARDS[Motion.DRIFT].reach_px
    local = functional.avg_pool2d(photo, reach, stride=1, padding=reach // 2, count_include_pad=False)
    change = 127.5 * (photo - local).abs().mean(1, keepdim=True)
    return (region * functional.avg_pool2d(change, 2)).mean((1, 2, 3))


def _blur(maps: Tensor, passes: int) -> Tensor:
    for _ in range(passes):
        maps = soften(maps)
    return maps


def _calm(photo: Tensor, guard: Guard) -> Tensor:
    """1 where the photo has no strong edge nearby, 0 at edges: (B, 1, 48, 48)."""
    brightness = (photo.mean(1, keepdim=True) + 1) / 2
    across = functional.pad((brightness[..., :, 1:] - brightness[..., :, :-1]).abs(), (0, 1, 0, 0))
    down = functional.pad((brightness[..., 1:, :] - brightness[..., :-1, :]).abs(), (0, 0, 0, 1))
    edges, reach = torch.maximum(across, down), guard.reach_px
    contrast = functional.max_pool2d(edges, reach, stride=1, padding=reach // 2)
    excess = (contrast - guard.contrast_from) / (guard.contrast_to - guard.contrast_from)
    return functional.avg_pool2d(1 - excess.clamp(0, 1), 2)
