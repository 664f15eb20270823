"""Train the network on procedural scenes: ``python -m workers.animate.train --minutes 17 --seed 1 --output PATH``.

The data need no download and are drawn from the seed alone. With ``--steps`` a run is repeatable on one machine; with
``--minutes`` the number of steps depends on how fast the machine is. Progress goes to standard error.

The loss has two parts, both weighted by noise level: the error of the factors, and the error of the motion composed
from them, in units of that motion's amplitude. The second ties factors together (a pivot matters only where there is a
region, a phase only where something moves) and is what a viewer sees.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from workers.animate import checkpoint
from workers.animate.diffusion import add_noise, loss_weight, shift
from workers.animate.motion import AMPLITUDE, PHASE, PIVOT, REGION, RESIDUAL, Motion, compose
from workers.animate.network import Architecture, MotionNetwork
from workers.animate.scenes import Scenes, render

BATCH = 16
FRESH_PER_STEP = 4
"""Rendering a batch afresh would cost half a training step; each scene is therefore met about four times, each time
with other noise, out of a pool that forgets its oldest scenes."""
POOL_MAX = 2048
LEARNING_RATE = 1e-3
WARM_UP_STEPS = 100
AVERAGE_DECAY = 0.998
GRADIENT_NORM_MAX = 1.0
WEIGHT_DECAY = 0.01
MOTION_LOSS_WEIGHT = 2.0


def _parts(scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    return scenes.photo, scenes.labels, scenes.factors


class ScenePool:
    """The latest scenes, at most `POOL_MAX`, from which batches are drawn."""

    def __init__(self, seed: int) -> None:
        self.generator = Generator().manual_seed(seed)
        self.scenes_total = 0
        first = _parts(render(BATCH, self.generator))
        self.parts = [torch.empty((POOL_MAX, *part.shape[1:]), dtype=part.dtype) for part in first]
        self._add(first)

    def _add(self, fresh: tuple[Tensor, Tensor, Tensor]) -> None:
        rows = torch.arange(self.scenes_total, self.scenes_total + len(fresh[0])) % POOL_MAX
        for part, news in zip(self.parts, fresh, strict=True):
            part[rows] = news
        self.scenes_total += len(rows)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Photos (16, 3, 96, 96), labels (16,) and true factors (16, 13, 48, 48)."""
        self._add(_parts(render(FRESH_PER_STEP, self.generator)))
        rows = torch.randperm(min(self.scenes_total, POOL_MAX), generator=self.generator)[:BATCH]
        photo, labels, factors = (part[rows] for part in self.parts)
        return photo, labels, factors


def loss_of(network: MotionNetwork, batch: tuple[Tensor, Tensor, Tensor], generator: Generator) -> Tensor:
    """Mean loss of one batch at random noise levels: a scalar."""
    photo, labels, factors = batch
    noise = torch.randn(factors.shape, generator=generator)
    level = shift(torch.rand(len(labels), generator=generator))
    with torch.autocast("cpu", torch.bfloat16):
        predicted = network(add_noise(factors, noise, level), photo, labels, level).float()
    squared = (predicted - factors).square()
    region = (factors[:, REGION] + 1) / 2
    factor_loss = (
        squared[:, REGION].mean((1, 2, 3))
        + 0.5 * ((0.1 + region) * squared[:, PIVOT]).mean((1, 2, 3))
        + 0.3 * squared[:, PHASE].mean((1, 2, 3))
        + 0.1 * squared[:, RESIDUAL].mean((1, 2, 3))
    )
    one_amplitude = 1 / torch.tensor([AMPLITUDE[motion] for motion in Motion])[labels]
    direction_rad = 6.2832 * torch.rand(len(labels), generator=generator)
    square = torch.ones(len(labels), 2)
    truth, guess = (compose(maps, labels, one_amplitude, direction_rad, square) for maps in (factors, predicted))
    motion_loss = (guess - truth).square().sum((1, 2)).mean((1, 2))
    loss: Tensor = (loss_weight(level) * (factor_loss + MOTION_LOSS_WEIGHT * motion_loss)).mean()
    return loss


def train(
    *,
    seed: int,
    steps: int | None = None,
    minutes: float | None = None,
    architecture: Architecture = Architecture(),  # noqa: B008 (frozen)
    on_step: Callable[[int, float, float], None] = lambda step, share, loss: None,
) -> tuple[MotionNetwork, int]:
    """Train a network for `steps` steps or `minutes` of wall time; on_step gets step, share done in [0, 1] and loss.

    Returns the exponential moving average of the weights and the number of steps. Exactly one limit must be given.
    """
    if (steps is None) == (minutes is None):
        raise ValueError("give either steps or minutes")
    torch.manual_seed(seed)
    network = MotionNetwork(architecture)
    average = MotionNetwork(architecture)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    pool, generator = ScenePool(seed), Generator().manual_seed(seed + 1)
    started_at_s, step, share = time.monotonic(), 0, 0.0
    while share < 1:
        decay = min(1.0, 2.0 * (1 - share))  # constant for the first half, then down to nothing
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * min((step + 1) / WARM_UP_STEPS, max(decay, 0.01))
        loss = loss_of(network, pool.draw(), generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM_MAX)
        optimiser.step()
        step += 1
        momentum = min(AVERAGE_DECAY, step / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, 1 - momentum)
        if steps is not None:
            share = step / steps
        elif minutes is not None:
            share = (time.monotonic() - started_at_s) / (60 * minutes)
        on_step(step, min(share, 1.0), loss.item())
    return average.eval(), step


def main(arguments: list[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m workers.animate.train", description="Train the motion network.")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=float, help="wall time to train for (default 17)")
    limit.add_argument("--steps", type=int, help="number of steps instead, for a repeatable run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="more than one is slower on a busy machine")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    options = parser.parse_args(arguments)
    minutes = 17.0 if options.minutes is None and options.steps is None else options.minutes
    torch.set_num_threads(options.threads)
    started_at_s, recent = time.monotonic(), 0.0

    def report(step: int, share: float, loss: float) -> None:
        nonlocal recent
        recent = loss if step == 1 else 0.98 * recent + 0.02 * loss
        if step % 50 == 0 or share >= 1:
            seconds = time.monotonic() - started_at_s
            sys.stderr.write(f"step {step}  {share:4.0%}  {seconds:.0f} s  loss {recent:.4f}\n")
            sys.stderr.flush()

    network, steps = train(seed=options.seed, steps=options.steps, minutes=minutes, on_step=report)
    limit_given = f"--minutes {minutes:g}" if minutes is not None else f"--steps {options.steps}"
    given = f"{limit_given} --seed {options.seed} --output {options.output.name}"
    metadata = {
        "model": "animate-v1",
        "command": f"python -m workers.animate.train {given}",
        "seed": str(options.seed),
        "steps": str(steps),
        "minutes": f"{(time.monotonic() - started_at_s) / 60:.1f}",
        "torch": torch.__version__,
        "licence": "Apache-2.0",
    }
    checkpoint.write(options.output, network, metadata)


if __name__ == "__main__":
    main()
