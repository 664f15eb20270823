"""Measure the model on held-out scenes: ``python -m workers.animate.evaluate --json [--sheet PNG]``.

Figures (pixels at a 512 px picture; scenes come from a seed that training never uses):

* `epe_px`: end-point error of the generated motion, averaged over cells and over eight moments of the loop. A sample is
  compared, not a mean of samples, so the part of the motion that no photo reveals (phase, gusts) counts against it.
* `epe_refined_px`: the same after `refine`, which is what users get. It gives up accuracy on purpose: soft edges and a
  distance from outlines look better than the truth of a scene cut out with scissors.
* `epe_zero_px`, `epe_template_px`: the same for zero motion, and for a linear template: per motion and cell, the
  least-squares field given strength and direction but not the photo, fitted to other scenes. To beat it, a model must
  look at the photo.
* `direction_error_degrees`: angle between generated and true displacement where the truth moves by over a pixel.
* `region_iou`: overlap of the generated and true regions (nearness, for zoom and parallax), cut at one half.
* `loop_gap_px`, `still_px`: largest displacement at t = 0, the end of the loop, and at strength 0; `folded_share`.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Generator, Tensor

from workers.animate import checkpoint
from workers.animate.diffusion import noise_for_seeds, sample
from workers.animate.motion import FACTOR_CHANNELS, GRID, REGION, TIME_CHANNELS, Motion, compose, displacements
from workers.animate.network import MotionNetwork
from workers.animate.refine import refine
from workers.animate.scenes import Scenes, render
from workers.animate.warp import folded_share, frames

SIDE_PX = 512
MOMENTS = torch.arange(1, 9) / 9
HELD_OUT_SEED = 1_000_003
TEMPLATE_SEED = 2_000_003
BATCH = 16


def _path_px(coefficients: Tensor) -> Tensor:
    """Displacements (B, 8, 2, H, W) in pixels over the loop."""
    return displacements(coefficients, MOMENTS) * SIDE_PX


def end_point_error_px(guess: Tensor, truth: Tensor) -> float:
    """Mean length of the difference of two coefficient fields (B, 5, 2, H, W)."""
    return (_path_px(guess) - _path_px(truth)).square().sum(2).sqrt().mean().item()


def direction_error_degrees(guess: Tensor, truth: Tensor) -> float:
    """Median angle between guess and truth where both move by more than a pixel; NaN if nowhere."""
    first, second = _path_px(guess), _path_px(truth)
    moving = (second.norm(dim=2) > 1) & (first.norm(dim=2) > 1)
    cross = first[:, :, 0] * second[:, :, 1] - first[:, :, 1] * second[:, :, 0]
    angle = torch.atan2(cross, (first * second).sum(2)).abs()[moving]
    return torch.rad2deg(angle.median()).item() if len(angle) else float("nan")


def region_overlap(guess: Tensor, truth: Tensor) -> float:
    """Intersection over union of the regions of two factor maps (B, 13, H, W), cut at one half."""
    first, second = guess[:, REGION] > 0, truth[:, REGION] > 0
    return ((first & second).sum() / (first | second).sum().clamp_min(1)).item()


def _inputs_of_template(scenes: Scenes) -> Tensor:
    """(B, 3): strength times 1, cosine and sine of the direction, in which every template is linear."""
    angle = scenes.direction_rad
    return scenes.strength[:, None] * torch.stack((torch.ones_like(angle), angle.cos(), angle.sin()), dim=1)


def fit_template(motion: Motion, count: int) -> Tensor:
    """Least-squares coefficients (3, 5, 2, H, W) of one motion from `count` scenes or a few more, blind to photos."""
    generator = Generator().manual_seed(TEMPLATE_SEED + motion.label)
    normal, mixed = torch.zeros(3, 3), torch.zeros(3, TIME_CHANNELS * 2 * GRID * GRID)
    for _ in range(0, count, BATCH):
        scenes = render(BATCH, generator, motion)
        inputs = _inputs_of_template(scenes)
        normal += inputs.T @ inputs
        mixed += inputs.T @ scenes.coefficients.flatten(1)
    solution: Tensor = torch.linalg.solve(normal, mixed)
    return solution.reshape(3, TIME_CHANNELS, 2, GRID, GRID)


def generate(network: MotionNetwork, scenes: Scenes, sampler_steps: int) -> Tensor:
    """Factors (B, 13, 48, 48) for scenes, one sample each, seeded by position."""
    results = []
    for start in range(0, len(scenes.labels), BATCH):
        photo, labels = scenes.photo[start : start + BATCH], scenes.labels[start : start + BATCH]
        noise = noise_for_seeds(range(start, start + len(labels)), (FACTOR_CHANNELS, GRID, GRID))

        def predict(noisy: Tensor, time: Tensor, photo: Tensor = photo, labels: Tensor = labels) -> Tensor:
            result: Tensor = network(noisy, photo, labels, time)
            return result

        results.append(sample(predict, noise, sampler_steps))
    return torch.cat(results)


def evaluate(
    network: MotionNetwork, *, scenes_per_motion: int, template_scenes: int, sampler_steps: int
) -> dict[str, object]:
    """All figures, by motion and on average. Deterministic for given weights and arguments."""
    by_motion: dict[str, dict[str, float]] = {}
    loop_gap_px = still_px = 0.0
    square = torch.ones(scenes_per_motion, 2)
    for motion in Motion:
        scenes = render(scenes_per_motion, Generator().manual_seed(HELD_OUT_SEED + motion.label), motion)
        factors = generate(network, scenes, sampler_steps)
        guess = compose(factors, scenes.labels, scenes.strength, scenes.direction_rad, square)
        repaired = refine(factors, scenes.photo, motion)
        refined = compose(repaired, scenes.labels, scenes.strength, scenes.direction_rad, square)
        still = compose(repaired, scenes.labels, torch.zeros(scenes_per_motion), scenes.direction_rad, square)
        template = torch.einsum("bi,ikchw->bkchw", _inputs_of_template(scenes), fit_template(motion, template_scenes))
        truth = scenes.coefficients
        by_motion[motion] = {
            "epe_px": end_point_error_px(guess, truth),
            "epe_refined_px": end_point_error_px(refined, truth),
            "epe_zero_px": end_point_error_px(torch.zeros_like(truth), truth),
            "epe_template_px": end_point_error_px(template, truth),
            "direction_error_degrees": direction_error_degrees(guess, truth),
            "region_iou": region_overlap(factors, scenes.factors),
            "folded_share": sum(folded_share(field, 8) for field in refined) / len(guess),
        }
        ends = refined.clone()
        ends[:, 0] = 0  # drift's velocity is closed by cross-fading, not by the basis
        loop_gap_px = max(loop_gap_px, displacements(ends, torch.tensor([0.0, 1.0])).abs().max().item() * SIDE_PX)
        still_px = max(still_px, _path_px(still).abs().max().item())
    names = next(iter(by_motion.values()))
    average = {name: sum(figures[name] for figures in by_motion.values()) / len(by_motion) for name in names}
    return {
        "scenes_per_motion": scenes_per_motion,
        "sampler_steps": sampler_steps,
        "average": average,
        "by_motion": by_motion,
        "loop_gap_px": loop_gap_px,
        "still_px": still_px,
        "beats_template": max(average["epe_px"], average["epe_refined_px"]) < average["epe_template_px"],
    }


def write_sheet(path: Path, network: MotionNetwork, sampler_steps: int) -> None:
    """A PNG with a row for each motion: the scene, true region, generated region, and four frames."""
    rows = []
    for motion in Motion:
        scenes = render(1, Generator().manual_seed(HELD_OUT_SEED + motion.label), motion)
        factors = generate(network, scenes, sampler_steps)
        fields = compose(factors, scenes.labels, torch.ones(1), torch.zeros(1), torch.ones(1, 2))[0]
        photo = ((scenes.photo[0] + 1) * 127.5).to(torch.uint8)
        regions = [((maps[0, REGION] + 1) * 127.5).clamp(0, 255).to(torch.uint8) for maps in (scenes.factors, factors)]
        large = [region.repeat_interleave(2, 1).repeat_interleave(2, 2).expand(3, -1, -1) for region in regions]
        rows.append(torch.cat([photo, *large, *list(frames(photo, fields, 5))[1:]], dim=2))
    Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).contiguous().numpy()).save(path, "PNG")


def main(arguments: list[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m workers.animate.evaluate", description="Measure the network.")
    parser.add_argument("--weights", type=Path, help="safetensors file (default: the packaged one)")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON instead of a table")
    parser.add_argument("--scenes", type=int, default=64, help="held-out scenes per motion")
    parser.add_argument("--template-scenes", type=int, default=512, help="scenes per motion to fit the template to")
    parser.add_argument("--sampler-steps", type=int, default=8)
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet (PNG)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    network, digest = checkpoint.load(options.weights)
    with torch.inference_mode():
        figures = evaluate(
            network,
            scenes_per_motion=options.scenes,
            template_scenes=options.template_scenes,
            sampler_steps=options.sampler_steps,
        )
        if options.sheet is not None:
            write_sheet(options.sheet, network, options.sampler_steps)
    if options.json:
        sys.stdout.write(json.dumps({"weights": digest, **figures}, indent=2) + "\n")
    else:
        sys.stdout.write(_table(figures) + "\n")


def _table(figures: dict[str, object]) -> str:
    by_motion, average = figures["by_motion"], figures["average"]
    assert isinstance(by_motion, dict)
    assert isinstance(average, dict)
    lines = [f"{'':10}{'':>2}" + "".join(f"{name:>25}" for name in average)]
    for motion, row in [*by_motion.items(), ("average", average)]:
        lines.append(f"{motion:12}" + "".join(f"{value:25.3f}" for value in row.values()))
    lines.append(f"loop gap {figures['loop_gap_px']:.6f} px, still {figures['still_px']:.6f} px")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
