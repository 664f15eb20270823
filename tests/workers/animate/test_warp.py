"""Warping, against cases whose answer is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from workers.animate.motion import GRID, TIME_CHANNELS, positions
from workers.animate.warp import aspect_of, folded_share, frames, inverse, look_up


def checks(height: int = 64, width: int = 96) -> torch.Tensor:
    """A smooth, colourful picture (3, H, W) uint8."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack((torch.sin(x / 5) + torch.sin(y / 7), torch.cos(x / 9 + y / 6), torch.sin((x + y) / 8)))
    return ((waves + 2) * 60).to(torch.uint8)


def constant(channel: int, x: float, y: float) -> torch.Tensor:
    coefficients = torch.zeros(TIME_CHANNELS, 2, GRID, GRID)
    coefficients[channel, 0], coefficients[channel, 1] = x, y
    return coefficients


def test_no_motion_changes_no_pixel() -> None:
    photo = checks()
    for frame in frames(photo, torch.zeros(TIME_CHANNELS, 2, GRID, GRID), 4):
        assert torch.equal(frame, photo)


def test_a_shift_is_a_shift_of_the_photo() -> None:
    photo = checks()
    coefficients = constant(2, 6 / 96, 3 / 96)  # sin: a quarter into the loop, 6 px right and 3 px down
    moved = list(frames(photo, coefficients, 4))[1]
    inner = (slice(None), slice(8, 56), slice(8, 88))
    expected = torch.roll(photo, (3, 6), (1, 2))
    assert (moved[inner].int() - expected[inner].int()).abs().max() <= 2


def test_the_first_frame_is_the_photo_and_drift_comes_round_to_it() -> None:
    photo = checks()
    loop = list(frames(photo, constant(0, 0.05, 0.0), 60))
    assert torch.equal(loop[0], photo)
    step = (loop[1].float() - loop[0].float()).abs().mean()
    seam = (loop[-1].float() - loop[0].float()).abs().mean()
    assert seam < 2 * step


def test_inverting_a_wave_gives_back_the_place() -> None:
    aspect = aspect_of(200, 300)
    at = positions(96, 96, aspect)
    push = 0.02 * torch.sin(at * 12)  # a slope of 0.24
    back = inverse(push, aspect)
    there = look_up(push, at + back, aspect, mode="bilinear", outside="border")
    inner = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    assert (back + there)[inner].abs().max() * 512 < 0.05


def test_folds_are_counted() -> None:
    assert folded_share(torch.zeros(TIME_CHANNELS, 2, GRID, GRID), 4) == 0
    inside_out = constant(2, 0, 0)
    inside_out[2] = -2 * positions(GRID, GRID, torch.ones(1, 2))[0]
    inside_out[2, 1] = 0
    assert folded_share(inside_out, 4) == pytest.approx(0.25)


def test_frames_make_pictures() -> None:
    frame = next(frames(checks(), constant(1, 0.01, 0), 2))
    assert Image.fromarray(np.asarray(frame.permute(1, 2, 0))).size == (96, 64)
