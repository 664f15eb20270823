"""Diffusion on factor maps: the noise path, the loss weight and the few-step sampler.

Theory of operation: ``x_t = (1 - t) x_0 + t e`` with e ~ N(0, 1) (the linear path of rectified flow, Liu et al. 2022,
eq. 1) and a network that predicts x_0. Predicting the velocity instead would oblige the network to copy white noise;
measured, that left visible wobble in the motion. The sampler is DDIM (Song et al. 2021, eq. 12 with eta = 0) on this
path: re-noise the predicted x_0 with the noise it implies.

Factor maps are smooth, so neighbouring cells betray a map through a lot of noise. Both training and sampling therefore
spend their time at high noise (Hoogeboom et al. 2023, "simple diffusion"): t -> s t / (1 + (s - 1) t), s = 3.

Noise is seeded per sample: what one sample draws does not depend on the batch it is in.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NOISE_SHIFT = 3.0
LOSS_WEIGHT_MAX = 3.0
STEPS_MAX = 1000


def shift(time: Tensor) -> Tensor:
    """Move uniform times in [0, 1] towards noise; 0 and 1 stay where they are."""
    return NOISE_SHIFT * time / (1 + (NOISE_SHIFT - 1) * time)


def add_noise(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t for clean and noise (B, C, H, W) and time (B,) in [0, 1]."""
    time = time[:, None, None, None]
    return (1 - time) * clean + time * noise


def loss_weight(time: Tensor) -> Tensor:
    """Weight of the x_0 error at time (B,): the signal-to-noise amplitude ratio, clipped to [1, 3].

    Clipped below because pure noise is where the network must rely on the photo alone, which is what we want it to
    learn; clipped above because nearly clean maps teach nothing.
    """
    return ((1 - time) / time.clamp_min(1e-4)).clamp(1.0, LOSS_WEIGHT_MAX)


def noise_for_seeds(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (len(seeds), *shape), sample i from seed i alone, whatever the batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def sample(
    predict_clean: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    steps: int,
    on_step: Callable[[int], None] = lambda step: None,
) -> Tensor:
    """Draw x_0 with `steps` network calls.

    predict_clean: (x_t (B, C, H, W), time (B,)) -> x_0; noise: (B, C, H, W); on_step gets 1..steps after each call and
    may raise to stop. Returns (B, C, H, W). Raises ValueError if steps is outside 1..1000.
    """
    if not 1 <= steps <= STEPS_MAX:
        raise ValueError(f"steps must be in 1..{STEPS_MAX}, not {steps}")
    times = shift(torch.linspace(1, 0, steps + 1))
    state = noise
    for index in range(steps):
        now, later = times[index], times[index + 1]
        clean = predict_clean(state, now.expand(len(state)))
        implied_noise = (state - (1 - now) * clean) / now
        state = (1 - later) * clean + later * implied_noise
        on_step(index + 1)
    return state
