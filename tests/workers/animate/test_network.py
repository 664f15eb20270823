"""The network answers to everything it is given."""

import torch
from torch import Tensor

from workers.animate.motion import FACTOR_CHANNELS, GRID
from workers.animate.network import PHOTO_PX, Architecture, MotionNetwork, embed_time

SMALL = Architecture(widths=(16, 16, 16), condition_width=16, stem_width=8)


def awake(network: MotionNetwork) -> MotionNetwork:
    """Blocks start as identities; give their last layers some weight so that conditions can show."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def answer(network: MotionNetwork, *, photo: float = 0.0, label: int = 0, time: float = 0.5, seed: int = 0) -> Tensor:
    noisy = torch.randn(1, FACTOR_CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(seed))
    picture = photo * torch.randn(1, 3, PHOTO_PX, PHOTO_PX, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        result: Tensor = network(noisy, picture, torch.tensor([label]), torch.tensor([time]))
    return result


def test_every_condition_counts() -> None:
    torch.manual_seed(0)
    network = awake(MotionNetwork(SMALL))
    base = answer(network)
    assert base.shape == (1, FACTOR_CHANNELS, GRID, GRID)
    for other in (
        answer(network, photo=1.0),
        answer(network, label=1),
        answer(network, time=0.9),
        answer(network, seed=1),
    ):
        assert (other - base).abs().mean() > 1e-3


def test_samples_of_a_batch_do_not_mix() -> None:
    torch.manual_seed(0)
    network = awake(MotionNetwork(SMALL))
    noisy, photo = torch.randn(3, FACTOR_CHANNELS, GRID, GRID), torch.randn(3, 3, PHOTO_PX, PHOTO_PX)
    labels, time = torch.tensor([0, 3, 6]), torch.tensor([0.2, 0.5, 1.0])
    with torch.inference_mode():
        together = network(noisy, photo, labels, time)
        alone = network(noisy[1:2], photo[1:2], labels[1:2], time[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_times_are_told_apart() -> None:
    embedded = embed_time(torch.linspace(0, 1, 9), 64)
    assert embedded.shape == (9, 64)
    assert torch.cdist(embedded, embedded).fill_diagonal_(9).min() > 0.5
