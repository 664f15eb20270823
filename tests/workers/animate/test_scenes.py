"""Training scenes: repeatable, in range, and true to what they show."""

import pytest
import torch

from workers.animate.motion import FACTOR_CHANNELS, GRID, PHASE, PIVOT, REGION, TIME_CHANNELS, Motion, compose, soften
from workers.animate.network import PHOTO_PX
from workers.animate.scenes import render
from workers.animate.warp import folded_share


def test_a_seed_determines_the_scenes() -> None:
    first, second, other = (render(4, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first.photo, second.photo)
    assert torch.equal(first.coefficients, second.coefficients)
    assert not torch.equal(first.photo, other.photo)


def test_shapes_and_ranges() -> None:
    scenes = render(12, torch.Generator().manual_seed(1))
    assert scenes.photo.shape == (12, 3, PHOTO_PX, PHOTO_PX)
    assert scenes.factors.shape == (12, FACTOR_CHANNELS, GRID, GRID)
    assert scenes.coefficients.shape == (12, TIME_CHANNELS, 2, GRID, GRID)
    assert scenes.photo.abs().max() <= 1
    assert scenes.factors[:, REGION].abs().max() <= 1
    assert scenes.factors[:, PIVOT].abs().max() <= 1
    torch.testing.assert_close(scenes.factors[:, PHASE].square().sum(1), torch.ones(12, GRID, GRID))
    assert scenes.coefficients.isfinite().all()


@pytest.mark.parametrize("motion", list(Motion))
def test_nearly_every_scene_shows_what_its_motion_needs(motion: Motion) -> None:
    scenes = render(24, torch.Generator().manual_seed(2), motion)
    assert (scenes.labels == motion.label).all()
    present = (scenes.factors[:, REGION] > -0.5).float().mean((1, 2, 3)) > 0.005
    assert present.float().mean() > 0.6


def test_the_truth_is_what_the_factors_say() -> None:
    scenes = render(8, torch.Generator().manual_seed(3))
    again = compose(scenes.factors, scenes.labels, scenes.strength, scenes.direction_rad, torch.ones(8, 2))
    assert torch.equal(again, scenes.coefficients)


def test_true_motions_hardly_ever_fold() -> None:
    scenes = render(24, torch.Generator().manual_seed(4))
    assert sum(folded_share(field, 6) for field in scenes.coefficients) / 24 < 0.005


def test_softening_keeps_the_mean_of_a_constant() -> None:
    torch.testing.assert_close(soften(torch.full((1, 2, 6, 6), 0.3)), torch.full((1, 2, 6, 6), 0.3))
