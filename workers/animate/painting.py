"""Elements of training scenes: sky, water, buildings, plants, things and cups, each painted with its truth.

Beside its colour, every element paints what the motions need to know: how near it is, and whether it is sky, liquid, a
plant or a thing with a middle of its own. What is painted over is erased in all those maps, so the truth respects
occlusion. Everything is vectorised over a batch; `present` is (B, 1, 1, 1) of 0 or 1, a choice for each scene.

Coordinates run over [-1, 1], x to the right and y downwards. Masks, nearness and regions are (B, 1, R, R) in [0, 1].
"""

from functools import lru_cache
from math import pi

import torch
from torch import Generator, Tensor
from torch.nn import functional

from workers.animate.network import PHOTO_PX

EDGE = 1.5 / PHOTO_PX
"""Half width of painted edges, in the unit of the coordinates: about as soft as a photo scaled down."""


@lru_cache
def _stretch(length: int) -> Tensor:
    """Matrix (R, length) of bicubic interpolation along one axis: two small products are faster than `interpolate`."""
    unit = torch.eye(length)[None, :, :, None]
    return functional.interpolate(unit, (PHOTO_PX, 1), mode="bicubic")[0, :, :, 0].T.contiguous()


class Draw:
    """Random numbers for one batch, shaped (B, 1, 1, 1) so that they combine with maps."""

    def __init__(self, count: int, generator: Generator) -> None:
        self.count, self.generator = count, generator

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(self.count, channels, 1, 1, generator=self.generator)

    def chance(self, probability: float) -> Tensor:
        return (self.uniform(0, 1) < probability).float()

    def noise(self, rows: int, columns: int, octaves: int, channels: int = 1) -> Tensor:
        """Fractal noise of mean 0 and deviation about 1, (B, channels, R, R), from a rows x columns lattice up."""
        total = torch.zeros(self.count, channels, PHOTO_PX, PHOTO_PX)
        for octave in range(octaves):
            size = (min(rows << octave, PHOTO_PX), min(columns << octave, PHOTO_PX))
            lattice = torch.randn(self.count, channels, *size, generator=self.generator)
            total += 0.6**octave * (_stretch(size[0]) @ lattice @ _stretch(size[1]).T)
        return total

    def colour(self, centre: tuple[float, float, float], spread: float) -> Tensor:
        """A colour (B, 3, 1, 1) in [0, 1] near `centre`."""
        return (torch.tensor(centre)[:, None, None] + self.uniform(-spread, spread, 3)).clamp(0, 1)


def mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    return first + (second - first) * share


def inside(distance: Tensor) -> Tensor:
    """Soft mask of a signed distance that is negative inside."""
    return torch.sigmoid(-distance / EDGE * 2)


class Canvas:
    """The picture so far and the truth about it."""

    def __init__(self, draw: Draw) -> None:
        count, size = draw.count, PHOTO_PX
        axis = (torch.arange(size) + 0.5) / size * 2 - 1
        self.x = axis.reshape(1, 1, 1, size).expand(count, 1, size, size)
        self.y = axis.reshape(1, 1, size, 1).expand(count, 1, size, size)
        self.colour = torch.zeros(count, 3, size, size)
        self.nearness = torch.zeros(count, 1, size, size)
        self.sky, self.liquid, self.plant, self.thing = (torch.zeros(count, 1, size, size) for _ in range(4))
        self.pivot = torch.zeros(count, 2, size, size)

    def paint(self, mask: Tensor, colour: Tensor, nearness: Tensor, **regions: Tensor) -> None:
        """Paint over what is there; `regions` are the values that sky, liquid, plant or thing take inside the mask."""
        self.colour = mix(self.colour, colour.clamp(0, 1), mask)
        self.nearness = mix(self.nearness, nearness, mask)
        for name in ("sky", "liquid", "plant", "thing"):
            value = regions.get(name, torch.zeros(()))
            setattr(self, name, mix(getattr(self, name), value, mask))

    def turn_about(self, distance: Tensor, present: Tensor, x: Tensor, y: Tensor) -> None:
        """Make (x, y) the pivot of everything within and a little around a shape."""
        share = present * torch.sigmoid(-(distance - 0.12) / 0.04)
        self.pivot = mix(self.pivot, torch.cat((x, y), dim=1), share)


def paint_distance(canvas: Canvas, draw: Draw, outdoors: Tensor, watery: Tensor, cloudless: Tensor) -> None:
    """Sky, hills and water or ground outdoors; a backdrop and perhaps a table indoors."""
    x, y = canvas.x, canvas.y
    horizon = torch.where(outdoors > 0, draw.uniform(-0.4, 0.7), draw.uniform(-0.2, 1.6))
    tilt = draw.uniform(-0.06, 0.06)
    below = y - horizon - tilt * x
    fade = ((y + 1) / 2).clamp(0, 1)
    blue, any_colour = draw.colour((0.45, 0.6, 0.8), 0.3), draw.colour((0.5, 0.5, 0.5), 0.5)
    top = torch.where(draw.chance(0.6) > 0, blue, any_colour)
    bottom = (top + draw.uniform(-0.15, 0.3) + draw.uniform(-0.15, 0.15, 3)).clamp(0, 1)
    sky = mix(top, bottom, fade)
    cloud_shape = (draw.noise(3, 2, 5) - draw.uniform(-0.7, 0.9)) * draw.uniform(0.8, 3)
    clouds = torch.sigmoid(cloud_shape) * draw.uniform(0.3, 1) * (1 - cloudless)
    sky = mix(sky, draw.colour((0.85, 0.83, 0.82), 0.15) - 0.12 * draw.noise(3, 3, 4), clouds)
    mottle = draw.noise(6, 6, 4, 3)
    slope = draw.uniform(-0.2, 0.2) * x + draw.uniform(-0.2, 0.2) * y
    backdrop = any_colour + draw.uniform(0.02, 0.12) * mottle + slope
    whole = torch.ones_like(x)
    canvas.paint(whole, torch.where(outdoors > 0, sky, backdrop), 0.12 * (1 - outdoors) * whole, sky=outdoors * whole)
    line = draw.noise(1, 4, 4)[:, :, 48:49, :]
    hills = inside(-(below + draw.uniform(0, 0.35) * (line + 0.8))) * outdoors * draw.chance(0.7)
    hill_colour = draw.colour((0.35, 0.42, 0.38), 0.25) + draw.uniform(0.02, 0.1) * mottle
    canvas.paint(hills, hill_colour, 0.15 * whole)
    ramp = (below / (1 - horizon).clamp_min(0.3)).clamp(0, 1)
    ground_noise = torch.where(draw.chance(0.5) > 0, draw.noise(14, 3, 3, 3), draw.noise(8, 8, 4, 3))
    ground = draw.colour((0.42, 0.38, 0.3), 0.35) + draw.uniform(0.02, 0.12) * ground_noise
    waves = draw.noise(20, 3, 2) + 0.5 * draw.noise(10, 2, 2)
    mirrored = mix(bottom, top, ramp) * draw.uniform(0.4, 1)
    water = mix(mirrored, draw.colour((0.2, 0.35, 0.42), 0.2), draw.uniform(0, 0.7)) + draw.uniform(0.02, 0.1) * waves
    lower = inside(-below)
    canvas.paint(
        lower,
        torch.where(watery > 0, water, ground),
        0.15 + 0.8 * ramp,
        liquid=watery * (0.45 + 0.55 * ramp),
    )


def _blob_distance(
    canvas: Canvas, draw: Draw, x: Tensor, y: Tensor, wide: Tensor, high: Tensor, rough: float
) -> Tensor:
    """Signed distance (roughly) of a lumpy ellipse; `rough` is how lumpy, 0 being an ellipse."""
    angle = draw.uniform(-0.4, 0.4)
    across, down = canvas.x - x, canvas.y - y
    across, down = across * angle.cos() + down * angle.sin(), down * angle.cos() - across * angle.sin()
    across, down = across / wide, down / high
    around = torch.atan2(down, across)
    radius = torch.ones_like(around)
    for lobes in range(2, 7):
        radius = radius + rough / lobes * draw.uniform(-1, 1) * torch.cos(lobes * around + draw.uniform(0, 2 * pi))
    return ((across.square() + down.square()).sqrt() - radius) * torch.minimum(wide, high)


def _surface(canvas: Canvas, draw: Draw, x: Tensor, y: Tensor, size: Tensor) -> Tensor:
    """Colour (B, 3, R, R) of a thing: two tones in patches or stripes, lit from a side."""
    first, second = draw.colour((0.5, 0.45, 0.42), 0.45), draw.colour((0.5, 0.45, 0.42), 0.45)
    angle = draw.uniform(0, pi)
    stripes = torch.sin((canvas.x * angle.cos() + canvas.y * angle.sin()) * draw.uniform(8, 40))
    pattern = torch.where(draw.chance(0.3) > 0, stripes, draw.noise(4, 4, 4)) - draw.uniform(-1, 1)
    light = ((canvas.x - x) * draw.uniform(-1, 1) + (canvas.y - y) * draw.uniform(-1, 0.3)) / size
    share = torch.sigmoid(pattern * draw.uniform(1, 5)) * draw.uniform(0, 1)
    return mix(first, second, share) + 0.25 * light.clamp(-1, 1) + draw.uniform(0, 0.08) * draw.noise(16, 16, 3)


def paint_building(canvas: Canvas, draw: Draw, present: Tensor) -> None:
    """A block with windows and perhaps a gable: a distractor that only parallax and zoom may move."""
    x, base, wide, high = draw.uniform(-1, 1), draw.uniform(0, 0.8), draw.uniform(0.04, 0.45), draw.uniform(0.3, 1.4)
    gable = draw.uniform(0, 0.7) * (canvas.x - x).abs()
    above_or_below = torch.maximum(canvas.y - base, base - high + gable - canvas.y)
    distance = torch.maximum((canvas.x - x).abs() - wide, above_or_below)
    pitch = draw.uniform(10, 50)
    windows = torch.sigmoid(6 * (torch.sin(canvas.x * pitch) + torch.sin(canvas.y * pitch * 0.8) - 0.6))
    wall, glass = _surface(canvas, draw, x, base, wide), draw.colour((0.25, 0.25, 0.3), 0.25)
    canvas.paint(inside(distance) * present, mix(wall, glass, windows * draw.uniform(0, 1)), draw.uniform(0.3, 0.5))


def paint_plant(canvas: Canvas, draw: Draw, present: Tensor) -> None:
    """A trunk and a leafy crown, or a bare stem; the plant map is the height above the root, 1 at the tip."""
    x, base = draw.uniform(-0.95, 0.95), draw.uniform(0.2, 1.15)
    high, wide = draw.uniform(0.45, 1.5), draw.uniform(0.1, 0.45)
    nearness = (0.3 + 0.6 * base).clamp(0, 1)
    reach = ((base - canvas.y) / high).clamp(0, 1.1)
    colour = draw.colour((0.3, 0.4, 0.18), 0.22) + draw.uniform(0.05, 0.2) * draw.noise(14, 14, 3)
    bend = draw.uniform(-0.2, 0.2) * reach.square()
    trunk = torch.maximum((canvas.x - x - bend).abs() - 0.03 - 0.03 * (1 - reach), -reach + 0.001)
    trunk = torch.maximum(trunk, base - 0.9 * high - canvas.y)
    canvas.paint(inside(trunk) * present, draw.colour((0.3, 0.24, 0.18), 0.15), nearness, plant=reach)
    crown = _blob_distance(canvas, draw, x + bend, base - 0.7 * high, wide, 0.4 * high, 0.4)
    crown = crown + draw.uniform(0.02, 0.1) * draw.noise(8, 8, 3)
    canvas.paint(inside(crown) * present, colour, nearness, plant=reach)


def paint_grass(canvas: Canvas, draw: Draw, present: Tensor) -> None:
    """Grass along the bottom of the picture."""
    base, high = draw.uniform(0.9, 1.2), draw.uniform(0.2, 0.7)
    blades = draw.noise(1, 24, 3)[:, :, 48:49, :]
    reach = ((base - canvas.y) / high).clamp(0, 1)
    distance = (base - high * (0.6 + 0.25 * blades) - canvas.y) * 0.3
    colour = draw.colour((0.35, 0.42, 0.2), 0.2) + draw.uniform(0.05, 0.2) * draw.noise(4, 24, 2)
    canvas.paint(inside(distance) * present, colour * (0.6 + 0.5 * reach), torch.full_like(reach, 0.95), plant=reach)


def paint_thing(canvas: Canvas, draw: Draw, present: Tensor, indoors: Tensor, size: tuple[float, float]) -> None:
    """A lumpy object with a shadow. Indoors it also counts as something that can sway about its foot."""
    x, y = draw.uniform(-0.6, 0.6), draw.uniform(-0.4, 0.7)
    wide, high = draw.uniform(*size), draw.uniform(*size) * draw.uniform(0.8, 1.5)
    distance = _blob_distance(canvas, draw, x, y, wide, high, 0.35)
    shadow = torch.sigmoid(-_blob_distance(canvas, draw, x, y + high, wide, 0.3 * high, 0.0) / 0.08)
    canvas.colour = canvas.colour * (1 - draw.uniform(0, 0.5) * shadow * present)
    nearness = (0.45 + 0.4 * (y + high)).clamp(0.35, 1)
    reach = ((y + high - canvas.y) / (2 * high)).clamp(0, 1)
    colour = _surface(canvas, draw, x, y, wide)
    colour = colour - draw.uniform(0, 0.5) * torch.sigmoid((draw.noise(10, 10, 2) - 1.5) * 6)
    canvas.turn_about(distance, present, x, y)
    one = torch.ones_like(distance)
    canvas.paint(inside(distance) * present, colour, nearness, thing=one, plant=indoors * reach)


def paint_cup(canvas: Canvas, draw: Draw, present: Tensor) -> None:
    """Saucer, cup and what is in it, seen from above at some angle; the liquid can ripple, all of it can spin."""
    x, y, size = draw.uniform(-0.6, 0.6), draw.uniform(-0.3, 0.6), draw.uniform(0.2, 0.55)
    squash, one = draw.uniform(0.45, 1), torch.ones_like(canvas.x)
    china = draw.colour((0.75, 0.72, 0.7), 0.25)
    nearness = (0.6 + 0.3 * y).clamp(0.4, 1)
    for scale, lift, shade in ((1.55, 0.1, -0.08), (1.0, 0.0, 0.0)):
        rim = _blob_distance(canvas, draw, x, y + lift * size, scale * size, scale * size * squash, 0.02)
        if scale > 1:
            canvas.turn_about(rim, present, x, y)
        light = 0.15 * (canvas.x - x) / size * draw.uniform(-1, 1) + 0.06 * torch.sin(rim / size * 12)
        canvas.paint(inside(rim) * present, china + shade + light, nearness, thing=one)
    liquid = _blob_distance(canvas, draw, x, y, 0.85 * size, 0.85 * size * squash, 0.02)
    foam = torch.sigmoid((draw.noise(4, 4, 3) - draw.uniform(-0.5, 1.5)) * 4) * draw.uniform(0, 0.8)
    colour = mix(draw.colour((0.35, 0.22, 0.15), 0.25), draw.colour((0.85, 0.75, 0.6), 0.15), foam)
    canvas.paint(inside(liquid) * present, colour, nearness, thing=one, liquid=0.8 * one)
