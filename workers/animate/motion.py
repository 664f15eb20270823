"""The seven motions: what the network has to find, and how a motion follows from it.

Rules
-----
* The network says WHERE (`factors`); the templates in this file say HOW. Strength and direction enter only here, so
  they always answer exactly: strength 0 is a still picture, and a direction turns the motion by that angle.
* A motion is five coefficient fields on a periodic time basis,
  ``d(t) = v t + sum_k a_k (cos 2 pi k t - 1) + b_k sin 2 pi k t`` for k = 1, 2 and t in [0, 1).
  Every term is zero at t = 0, so frame 0 is the photo, and the sum is periodic, so the loop closes. Only `v` (used by
  drift alone) is not periodic; `warp` closes it by a cross-fade.
* d is a displacement of the photo's own pixels (source to target), in fractions of the photo's longer side; x points
  right, y points down. Positions run over [-0.5, 0.5] along the longer side.

Two harmonics are enough for these templates: a rotation by ``A sin`` is exact to second order in A.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import pi

import torch
from torch import Tensor
from torch.nn import functional

GRID = 48
"""Cells along each side of a field. A prototype showed 48 to 64 to be enough, as edges must be soft anyway."""

HARMONICS = 2
TIME_CHANNELS = 1 + 2 * HARMONICS

REGION = slice(0, 1)
PIVOT = slice(1, 3)
PHASE = slice(3, 5)
RESIDUAL = slice(5, 5 + 4 * HARMONICS)
FACTOR_CHANNELS = RESIDUAL.stop


class Motion(StrEnum):
    """The closed set of motions. Their order is the label in the network and must not change for given weights."""

    SWAY = "sway"
    RIPPLE = "ripple"
    DRIFT = "drift"
    ZOOM = "zoom"
    PARALLAX = "parallax"
    SPIN = "spin"
    PULSE = "pulse"

    @property
    def label(self) -> int:
        """Index of this motion in the network's label embedding."""
        return LABELS[self]


LABELS = {motion: index for index, motion in enumerate(Motion)}

AMPLITUDE = {
    # Largest displacement at strength 1 in fractions of the longer side, or radians (spin), or growth (zoom, pulse).
    # Chosen by eye on photos: clearly visible, below the size at which a rubber sheet looks like rubber.
    Motion.SWAY: 0.026,
    Motion.RIPPLE: 0.010,
    Motion.DRIFT: 0.045,
    Motion.ZOOM: 0.130,
    Motion.PARALLAX: 0.034,
    Motion.SPIN: 0.200,
    Motion.PULSE: 0.130,
}

RESIDUAL_AMPLITUDE = {
    # What one standard deviation of the residual moves, in fractions of the longer side: about a tenth of the motion.
    Motion.SWAY: 0.0025,
    Motion.RIPPLE: 0.0012,
    Motion.DRIFT: 0.0015,
    Motion.ZOOM: 0.0005,
    Motion.PARALLAX: 0.0008,
    Motion.SPIN: 0.0010,
    Motion.PULSE: 0.0010,
}

PARALLAX_PIVOT_NEARNESS = 0.4
"""The depth that stays still while the camera moves; nearer and farther things move in opposite directions."""

RIPPLE_WAVELENGTH = 0.17
"""In fractions of the longer side. 2 pi A / wavelength = 0.37 < 1, so that the waves cannot fold the picture."""

SWAY_LAG_RAD = 0.9
"""How far the tip of a plant lags behind its root."""


@dataclass(frozen=True)
class Parts:
    """Factors of B samples with one motion, unpacked: all tensors (B, C, H, W) unless said otherwise."""

    region: Tensor  # C = 1, in [0, 1]: how much a cell takes part; nearness for zoom and parallax
    lever: Tensor  # C = 2, position minus pivot
    phase: Tensor  # C = 2, unit vector (cos, sin)
    position: Tensor  # C = 2
    along: Tensor  # (B, 2, 1, 1), unit vector of the direction asked for


def positions(height: int, width: int, aspect: Tensor) -> Tensor:
    """Cell centres, (B, 2, height, width) as x, y in [-0.5, 0.5] x `aspect`; aspect (B, 2) has its larger entry 1."""
    x = (torch.arange(width) + 0.5) / width - 0.5
    y = (torch.arange(height) + 0.5) / height - 0.5
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    return grid[None] * aspect[:, :, None, None]


def soften(maps: Tensor) -> Tensor:
    """Blur (B, C, H, W) by a 5-tap binomial in both directions, about one cell: edges like a rubber sheet."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    channels = maps.shape[1]
    padded = functional.pad(maps, (2, 2, 2, 2), mode="replicate")
    padded = functional.conv2d(padded, taps.reshape(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)
    return functional.conv2d(padded, taps.reshape(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)


def _turn(vector: Tensor, angle: Tensor | float) -> Tensor:
    """Turn (B, 2, ...) vectors by an angle in radians; positive turns x towards y, which is clockwise on a screen."""
    cos, sin = torch.cos(torch.as_tensor(angle)), torch.sin(torch.as_tensor(angle))
    x, y = vector[:, 0:1], vector[:, 1:2]
    return torch.cat((x * cos - y * sin, y * cos + x * sin), dim=1)


def _fields(*, velocity: Tensor | None = None, **harmonics: Tensor) -> Tensor:
    """Stack coefficient fields named velocity, cos1, sin1, cos2, sin2 into (B, 5, 2, H, W); missing ones are zero."""
    given = [velocity, *(harmonics.get(name) for name in ("cos1", "sin1", "cos2", "sin2"))]
    zero = torch.zeros_like(next(field for field in given if field is not None))
    return torch.stack([zero if field is None else field for field in given], dim=1)


def _sway(parts: Parts) -> Tensor:
    # sin(T + p) - sin p = sin p (cos T - 1) + cos p sin T, with T = 2 pi t
    reach = parts.region * parts.along
    phase = _turn(parts.phase, -SWAY_LAG_RAD * parts.region)
    return _fields(cos1=reach * phase[:, 1:2], sin1=reach * phase[:, 0:1])


def _ripple(parts: Parts) -> Tensor:
    # A wave that travels along the direction and a shorter one across it at twice the speed. Water moves mostly up and
    # down; the share of sideways motion keeps a wave visible that runs over vertical edges.
    across = _turn(parts.along, pi / 2)
    first = _turn(parts.phase, -2 * pi / RIPPLE_WAVELENGTH * (parts.position * parts.along).sum(1, keepdim=True))
    second = _turn(parts.phase, -2 * pi / (0.7 * RIPPLE_WAVELENGTH) * (parts.position * across).sum(1, keepdim=True))
    swing = parts.region * (0.9 * across + 0.4 * parts.along)
    small = parts.region * (0.25 * across + 0.25 * parts.along)
    return _fields(
        cos1=swing * first[:, 1:2], sin1=swing * first[:, 0:1], cos2=small * second[:, 1:2], sin2=small * second[:, 0:1]
    )


def _drift(parts: Parts) -> Tensor:
    return _fields(velocity=parts.region * parts.along)


def _zoom(parts: Parts) -> Tensor:
    # (1 - cos T) / 2: in and out again, always growing, so that nothing from outside the photo is ever needed.
    return _fields(cos1=-0.5 * (0.3 + 0.7 * parts.region) * parts.lever)


def _parallax(parts: Parts) -> Tensor:
    depth = parts.region - PARALLAX_PIVOT_NEARNESS
    return _fields(sin1=depth * parts.along, cos1=0.4 * depth * _turn(parts.along, pi / 2))


def _spin(parts: Parts) -> Tensor:
    # (R(a) - 1) lever with a = A sin T, to second order: A sin T J lever - A^2/2 sin^2 T lever. The caller multiplies
    # by A once more, hence A / 4 below.
    turn = _turn(parts.region * parts.lever, pi / 2)
    return _fields(sin1=turn, cos2=AMPLITUDE[Motion.SPIN] / 4 * parts.region * parts.lever)


def _pulse(parts: Parts) -> Tensor:
    # Up on the beat and a smaller second beat.
    grow = parts.region * parts.lever
    return _fields(cos1=-0.5 * grow, cos2=-0.15 * grow)


TEMPLATES: dict[Motion, Callable[[Parts], Tensor]] = {
    Motion.SWAY: _sway,
    Motion.RIPPLE: _ripple,
    Motion.DRIFT: _drift,
    Motion.ZOOM: _zoom,
    Motion.PARALLAX: _parallax,
    Motion.SPIN: _spin,
    Motion.PULSE: _pulse,
}


def _compose_one_motion(factors: Tensor, motion: Motion, direction_rad: Tensor, aspect: Tensor) -> Tensor:
    height, width = factors.shape[-2:]
    position = positions(height, width, aspect)
    phase = factors[:, PHASE]
    region = ((factors[:, REGION] + 1) / 2).clamp(0, 1)
    parts = Parts(
        region=region,
        lever=position - factors[:, PIVOT] / 2 * aspect[:, :, None, None],
        phase=phase / (phase.square().sum(1, keepdim=True) + 1e-2).sqrt(),
        position=position,
        along=torch.stack((direction_rad.cos(), direction_rad.sin()), dim=1)[:, :, None, None],
    )
    fields = AMPLITUDE[motion] * TEMPLATES[motion](parts)
    residual = factors[:, RESIDUAL].reshape(-1, 2 * HARMONICS, 2, height, width)
    gate = RESIDUAL_AMPLITUDE[motion] * region[:, None]
    return torch.cat((fields[:, :1], fields[:, 1:] + gate * residual), dim=1)


def compose(factors: Tensor, labels: Tensor, strength: Tensor, direction_rad: Tensor, aspect: Tensor) -> Tensor:
    """Turn factors into the coefficients of a motion.

    factors: (B, 13, H, W), region and pivot in [-1, 1], phase a vector of length about 1, residual about N(0, 1).
    labels: (B,) int64; strength: (B,), usually in [-1, 1]; direction_rad: (B,); aspect: (B, 2), see `positions`.
    Returns (B, 5, 2, H, W): time channel, then x and y, in fractions of the longer side. Differentiable in factors.
    """
    parts: list[Tensor] = []
    rows: list[Tensor] = []
    for motion, label in LABELS.items():
        chosen = (labels == label).nonzero()[:, 0]
        if len(chosen):
            parts.append(_compose_one_motion(factors[chosen], motion, direction_rad[chosen], aspect[chosen]))
            rows.append(chosen)
    fields = torch.cat(parts)[torch.cat(rows).argsort()]
    return fields * strength[:, None, None, None, None]


def time_basis(time: Tensor) -> Tensor:
    """Values of the five basis functions at `time` (F,) in [0, 1): (F, 5), the first being t itself (drift)."""
    angle = 2 * pi * time
    columns = [time]
    for harmonic in range(1, HARMONICS + 1):
        columns += [torch.cos(harmonic * angle) - 1, torch.sin(harmonic * angle)]
    return torch.stack(columns, dim=1)


def displacements(coefficients: Tensor, time: Tensor) -> Tensor:
    """Displacement at each time: coefficients (B, 5, 2, H, W), time (F,) -> (B, F, 2, H, W), fractions of a side."""
    return torch.einsum("fk,bkchw->bfchw", time_basis(time), coefficients)
