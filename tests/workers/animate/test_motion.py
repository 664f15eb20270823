"""The promises of the motion basis: frame 0 is the photo, loops close, strength and direction answer exactly."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.animate.motion import (
    AMPLITUDE,
    FACTOR_CHANNELS,
    LABELS,
    RESIDUAL_AMPLITUDE,
    Motion,
    compose,
    displacements,
    positions,
    time_basis,
)

SQUARE = torch.ones(1, 2)


def factors_for(seed: int, count: int = 1) -> torch.Tensor:
    return torch.randn(count, FACTOR_CHANNELS, 12, 12, generator=torch.Generator().manual_seed(seed))


def field(motion: Motion, *, strength: float = 1.0, degrees: float = 0.0, seed: int = 3) -> torch.Tensor:
    direction = torch.tensor([math.radians(degrees)])
    return compose(factors_for(seed), torch.tensor([motion.label]), torch.tensor([strength]), direction, SQUARE)


def test_the_set_of_motions_is_closed_and_in_the_order_of_the_labels() -> None:
    assert [str(motion) for motion in Motion] == ["sway", "ripple", "drift", "zoom", "parallax", "spin", "pulse"]
    assert [LABELS[motion] for motion in Motion] == list(range(7))
    assert set(AMPLITUDE) == set(RESIDUAL_AMPLITUDE) == set(Motion)


@given(seed=st.integers(0, 2**32), motion=st.sampled_from(list(Motion)), strength=st.floats(0, 2))
def test_nothing_has_moved_at_the_start(seed: int, motion: Motion, strength: float) -> None:
    fields = field(motion, strength=strength, seed=seed)
    assert displacements(fields, torch.zeros(1)).abs().max() == 0


@pytest.mark.parametrize("motion", [motion for motion in Motion if motion is not Motion.DRIFT])
def test_the_loop_closes(motion: Motion) -> None:
    assert displacements(field(motion), torch.ones(1)).abs().max() < 1e-6


@pytest.mark.parametrize("motion", list(Motion))
def test_strength_is_exact(motion: Motion) -> None:
    assert field(motion, strength=0.0).abs().max() == 0
    torch.testing.assert_close(field(motion, strength=0.5) * 2, field(motion, strength=1.0))


def test_direction_turns_the_motion() -> None:
    for motion in (Motion.DRIFT, Motion.PARALLAX, Motion.SWAY):
        quiet = factors_for(3)
        quiet[:, 5:] = 0  # the residual has no direction
        label, one = torch.tensor([motion.label]), torch.ones(1)
        right = compose(quiet, label, one, torch.zeros(1), SQUARE)
        down = compose(quiet, label, one, torch.full((1,), math.pi / 2), SQUARE)
        torch.testing.assert_close(torch.stack((-right[:, :, 1], right[:, :, 0]), 2), down, atol=1e-6, rtol=1e-4)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    factors, labels = factors_for(5, 7), torch.tensor([4, 0, 6, 2, 1, 3, 5])
    strength, direction = torch.linspace(0.5, 1, 7), torch.linspace(-3, 3, 7)
    together = compose(factors, labels, strength, direction, torch.ones(7, 2))
    for row in range(7):
        one = slice(row, row + 1)
        alone = compose(factors[one], labels[one], strength[one], direction[one], SQUARE)
        torch.testing.assert_close(alone[0], together[row])


def test_spin_turns_without_stretching() -> None:
    factors = torch.zeros(1, FACTOR_CHANNELS, 24, 24)
    factors[:, 0], factors[:, 3] = 1, 1
    fields = compose(factors, torch.tensor([Motion.SPIN.label]), torch.ones(1), torch.zeros(1), SQUARE)
    at = positions(24, 24, SQUARE)
    turned = at + displacements(fields, torch.tensor([0.25]))[0]
    torch.testing.assert_close(turned.norm(dim=1), at.norm(dim=1), rtol=0.01, atol=0)
    cross = at[:, 0] * turned[:, 1] - at[:, 1] * turned[:, 0]
    angle = torch.atan2(cross, (at * turned).sum(1))
    torch.testing.assert_close(angle, torch.full_like(angle, AMPLITUDE[Motion.SPIN]), rtol=0.03, atol=0)


def test_positions_keep_the_shape_of_the_photo() -> None:
    at = positions(4, 8, torch.tensor([[1.0, 0.5]]))
    assert at.shape == (1, 2, 4, 8)
    assert at[0, 0].max().item() == pytest.approx(0.4375)
    assert at[0, 1].max().item() == pytest.approx(0.1875)


def test_the_basis_at_a_quarter() -> None:
    torch.testing.assert_close(time_basis(torch.tensor([0.25])), torch.tensor([[0.25, -1.0, 1.0, -2.0, 0.0]]))
