"""Repairs after sampling: what they must change, and what they must leave alone."""

import torch

from workers.animate.motion import FACTOR_CHANNELS, GRID, PHASE, PIVOT, REGION, RESIDUAL, Motion
from workers.animate.network import PHOTO_PX
from workers.animate.refine import drift_texture, refine

GREY = torch.zeros(1, 3, PHOTO_PX, PHOTO_PX)


def blob() -> torch.Tensor:
    """Factors with a disc as region and two pivots that disagree."""
    factors = torch.randn(1, FACTOR_CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(0))
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    factors[:, REGION] = torch.where((x - 24) ** 2 + (y - 24) ** 2 < 100, 1.0, -1.0)
    factors[:, PIVOT] = torch.where(x < 24, -0.2, 0.2).float()
    return factors


def pole() -> torch.Tensor:
    photo = GREY.clone()
    photo[..., 46:50] = 1
    return photo


def test_turning_regions_get_wide_edges_and_one_pivot() -> None:
    before = blob()
    after = refine(before, GREY, Motion.SPIN)
    assert after[0, 0].diff(dim=1).abs().max() < 0.4
    assert after[0, 0, 24, 24] > 0.9
    assert after[:, PIVOT].diff(dim=-1).abs().max() < 0.05
    assert torch.equal(after[:, PHASE], before[:, PHASE])
    assert torch.equal(after[:, RESIDUAL], before[:, RESIDUAL])


def test_drift_keeps_away_from_edges() -> None:
    everywhere = torch.ones(1, FACTOR_CHANNELS, GRID, GRID)
    region = refine(everywhere, pole(), Motion.DRIFT)[0, 0]
    assert region[:, 22:26].max() < -0.8
    assert region[:, :15].min() > 0.9
    assert torch.equal(refine(everywhere, GREY, Motion.DRIFT)[:, REGION], everywhere[:, REGION])


def test_factors_given_are_not_changed() -> None:
    given = blob()
    copy = given.clone()
    for motion in Motion:
        refine(given, pole(), motion)
    assert torch.equal(given, copy)


def test_texture_of_a_sky() -> None:
    everywhere = torch.ones(1, FACTOR_CHANNELS, GRID, GRID)
    fade = GREY + torch.linspace(-0.8, 0.8, PHOTO_PX)[:, None]
    y, x = torch.meshgrid(torch.arange(PHOTO_PX), torch.arange(PHOTO_PX), indexing="ij")
    clouds = GREY + 0.2 * torch.sin(x / 3) * torch.sin(y / 4)
    assert drift_texture(everywhere, GREY) == 0
    assert drift_texture(everywhere, fade) < 0.5
    assert drift_texture(everywhere, clouds) > 2
    assert drift_texture(-everywhere, clouds) == 0
