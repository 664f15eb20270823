"""Procedural training scenes with their true factors: nothing is downloaded and no photo is used.

A scene is painted from far to near and then developed like a photo. It is either outdoors (sky, hills, water or ground,
plants) or indoors (backdrop, table, cups, things); both have distractors that no motion may move. Everything is drawn
from one generator, so a seed determines the data on a given machine.
"""

from dataclasses import dataclass
from math import pi

import torch
from torch import Generator, Tensor
from torch.nn import functional

from workers.animate.motion import FACTOR_CHANNELS, GRID, LABELS, Motion, compose, soften
from workers.animate.painting import (
    Canvas,
    Draw,
    mix,
    paint_building,
    paint_cup,
    paint_distance,
    paint_grass,
    paint_plant,
    paint_thing,
)

EMPTY_SHARE = 0.1
"""Share of region motions (sway, ripple, drift) asked of scenes that were given no such region, to teach 'nothing'."""


@dataclass(frozen=True)
class Scenes:
    """A batch of B scenes with the truth."""

    photo: Tensor  # (B, 3, 96, 96) in [-1, 1]
    labels: Tensor  # (B,) int64
    strength: Tensor  # (B,) in [0.5, 1.25]
    direction_rad: Tensor  # (B,)
    factors: Tensor  # (B, 13, 48, 48), see motion.compose
    coefficients: Tensor  # (B, 5, 2, 48, 48), fractions of a side


def _develop(canvas: Canvas, draw: Draw) -> Tensor:
    """From paint to photo: exposure, tint, saturation, vignette, focus and grain. (B, 3, R, R) in [-1, 1]."""
    picture = canvas.colour.clamp(0, 1) ** draw.uniform(0.6, 1.6) * draw.uniform(0.6, 1.15)
    picture = picture * (1 + draw.uniform(-0.15, 0.15, 3))
    picture = mix(picture.mean(1, keepdim=True), picture, draw.uniform(0.15, 1.05) * (1 - draw.chance(0.1)))
    picture = picture * (1 - draw.uniform(0, 0.3) * (canvas.x.square() + canvas.y.square()) / 2)
    blurred = functional.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)
    picture = mix(picture, blurred, draw.uniform(0, 1))
    grain = torch.randn(picture.shape, generator=draw.generator) * draw.uniform(0, 0.04)
    return ((picture + grain) * 2 - 1).clamp(-1, 1)


def _true_factors(canvas: Canvas, draw: Draw, labels: Tensor) -> Tensor:
    nearness = canvas.nearness
    by_motion = {
        Motion.SWAY: canvas.plant,
        Motion.RIPPLE: canvas.liquid,
        Motion.DRIFT: canvas.sky,
        Motion.ZOOM: nearness,
        Motion.PARALLAX: nearness,
        Motion.SPIN: canvas.thing,
        Motion.PULSE: canvas.thing,
    }
    rows = torch.arange(draw.count)
    region = torch.stack([by_motion[motion] for motion in Motion])[labels, rows]
    region = soften(functional.avg_pool2d(region, 2)).clamp(0, 1)
    own_pivot = torch.isin(labels, torch.tensor([LABELS[Motion.SPIN], LABELS[Motion.PULSE]]))[:, None, None, None]
    pivot = functional.avg_pool2d(canvas.pivot, 2) * own_pivot
    living = torch.isin(labels, torch.tensor([LABELS[Motion.SWAY], LABELS[Motion.RIPPLE]]))[:, None, None, None]
    lattice = torch.randn(draw.count, 1 + FACTOR_CHANNELS - 5, 5, 5, generator=draw.generator)
    smooth = functional.interpolate(lattice, (GRID, GRID), mode="bicubic")
    angle = 0.3 * draw.uniform(-1.7, 1.7) + 0.5 * living * smooth[:, :1]
    return torch.cat((2 * region - 1, pivot, angle.cos(), angle.sin(), smooth[:, 1:]), dim=1)


def render(count: int, generator: Generator, motion: Motion | None = None) -> Scenes:
    """Draw `count` scenes: motions at random, or all of one `motion`. Advances the generator."""
    draw = Draw(count, generator)
    labels = torch.randint(len(LABELS), (count,), generator=generator)
    if motion is not None:
        labels = torch.full((count,), motion.label)
    asked = {name: (labels == name.label).float()[:, None, None, None] for name in Motion}
    willing = 1 - draw.chance(EMPTY_SHARE)

    def likely(probability: float, *motions: Motion) -> Tensor:
        """Present at random, but nearly always where a motion needs it."""
        wanted = sum((asked[name] for name in motions), torch.zeros(()))
        return torch.maximum(draw.chance(probability), wanted * willing)

    outdoors = torch.maximum(draw.chance(0.5), asked[Motion.DRIFT] * willing)
    outdoors = outdoors * (1 - asked[Motion.SPIN] * draw.chance(0.4))
    indoors = 1 - outdoors
    canvas = Canvas(draw)
    watery = torch.maximum(draw.chance(0.4), asked[Motion.RIPPLE] * willing) * outdoors
    paint_distance(canvas, draw, outdoors, watery, cloudless=draw.chance(0.15))
    paint_building(canvas, draw, draw.chance(0.3))
    paint_plant(canvas, draw, likely(0.25, Motion.SWAY) * outdoors)
    paint_thing(canvas, draw, likely(0.2, Motion.SPIN, Motion.PULSE), indoors, (0.12, 0.4))
    paint_plant(canvas, draw, draw.chance(0.2))
    paint_building(canvas, draw, draw.chance(0.12))
    wanted_large = 0.7 * asked[Motion.SWAY] * indoors + 0.35 * (asked[Motion.SPIN] + asked[Motion.PULSE])
    paint_thing(canvas, draw, (draw.uniform(0, 1) < 0.15 + wanted_large).float(), indoors, (0.3, 0.8))
    paint_cup(canvas, draw, torch.maximum(draw.chance(0.3), asked[Motion.RIPPLE] * willing) * indoors)
    paint_grass(canvas, draw, draw.chance(0.15) * outdoors)
    photo = _develop(canvas, draw)
    factors = _true_factors(canvas, draw, labels)
    strength = draw.uniform(0.5, 1.25)[:, 0, 0, 0]
    direction_rad = draw.uniform(-pi, pi)[:, 0, 0, 0]
    coefficients = compose(factors, labels, strength, direction_rad, torch.ones(count, 2))
    return Scenes(photo, labels, strength, direction_rad, factors, coefficients)
