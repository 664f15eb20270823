"""The noise path and the sampler, against targets that are known."""

import pytest
import torch
from torch import Tensor

from workers.animate.diffusion import add_noise, loss_weight, noise_for_seeds, sample, shift


def test_noise_depends_on_the_seed_alone() -> None:
    together = noise_for_seeds([3, 1, 2], (2, 4, 4))
    assert torch.equal(noise_for_seeds([1], (2, 4, 4))[0], together[1])
    assert not torch.equal(together[0], together[1])


def test_the_path_runs_from_clean_to_noise() -> None:
    clean, noise = torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 5.0)
    noisy = add_noise(clean, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[1], noise[1])


def test_times_are_moved_towards_noise_and_keep_their_ends() -> None:
    times = torch.linspace(0, 1, 11)
    moved = shift(times)
    assert moved[0] == 0
    assert moved[-1] == 1
    assert (moved[1:-1] > times[1:-1]).all()
    assert (moved.diff() > 0).all()


def test_weights_are_bounded() -> None:
    weights = loss_weight(torch.linspace(0, 1, 101))
    assert weights.min() == 1
    assert weights.max() == 3
    assert (weights.diff() <= 0).all()


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_perfect_network_is_sampled_exactly(steps: int) -> None:
    target = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    seen: list[int] = []
    result = sample(lambda noisy, time: target, noise_for_seeds([0, 1], (3, 4, 4)), steps, seen.append)
    torch.testing.assert_close(result, target)
    assert seen == list(range(1, steps + 1))


def test_gaussian_data_come_out_with_their_own_spread() -> None:
    # For x_0 ~ N(0, s^2) the best prediction is linear in x_t; the sampler must then reproduce s.
    spread = 0.5

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        t = time[0]
        share = (1 - t) * spread**2 / ((1 - t) ** 2 * spread**2 + t**2)
        return share * noisy

    drawn = sample(predict, noise_for_seeds(range(64), (1, 8, 8)), 100)
    assert drawn.std().item() == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_step_counts_are_bounded(steps: int) -> None:
    with pytest.raises(ValueError, match="steps"):
        sample(lambda noisy, time: noisy, torch.zeros(1, 1, 1, 1), steps)
