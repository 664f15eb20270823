"""The `animate` model: a photo in, a looping animation of it out.

A small diffusion U-Net looks at the photo and draws, at 48 x 48, where things are and how they hang together; fixed
templates turn that into a motion (`motion`), and the photo itself is moved at full resolution (`warp`). The network
never paints a pixel, so the animation is as sharp as the photo and its first frame is the photo.

Same seed, same bytes (on one machine, with one torch build and thread count). One `AnimateModel` serves many threads.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from workers.animate import checkpoint, warp
from workers.animate.checkpoint import WeightsRejected
from workers.animate.diffusion import noise_for_seeds, sample
from workers.animate.motion import FACTOR_CHANNELS, GRID, REGION, Motion, compose
from workers.animate.network import PHOTO_PX
from workers.animate.photo import InputRejected, PhotoRejected, decode
from workers.animate.refine import drift_texture, refine

__all__ = ["AnimateModel", "Animation", "Cancelled", "InputRejected", "PhotoRejected", "Progress", "WeightsRejected"]

SIDE_PX_MAX = 512
"""Longer side of the animation. Warping and encoding cost in proportion to pixels: 512 keeps a job near one second."""

FRAMES = 24
FRAME_MS = 80
"""12.5 frames a second; a loop takes 1.92 s."""

SAMPLER_STEPS = 8
STRENGTH_MAX = 2.0
SEED_MAX = 2**63 - 1

WEBP_QUALITY = 80
WEBP_METHOD = 0
"""Effort 0..6. Encoding is one call that cannot be interrupted: 0 keeps it below 0.3 s for 24 detailed frames of
512 x 512, for files about 8 % larger than with 1."""

AUTO_CONFIDENCE = {Motion.DRIFT: 0.70, Motion.RIPPLE: 0.60, Motion.SWAY: 0.50}
"""What `auto` may choose, and how sure the network has to be. The values differ because the regions do: sky counts as 1
throughout, water fades with distance, and a plant grows from 0 at its root to 1 at its tip."""

SEEN_MIN = 0.35
"""Where no cell takes part by more than this, the photo does not have what the motion needs."""

DRIFT_TEXTURE_MIN = 0.8
"""See `refine.drift_texture`. Two photos with clear skies measure 0.3 and 0.7, most cloudy scenes over 0.9."""

STAND_IN = Motion.PARALLAX
"""Suits every photo, since every photo has some depth."""


class Cancelled(Exception):
    """Raised by a caller's `on_step` to stop a job; `generate` lets it through."""


@dataclass(frozen=True)
class Progress:
    """Work done so far: `step` of `steps` over the whole job, in [1, steps], and which stage the step belonged to."""

    stage: str
    step: int
    steps: int


@dataclass(frozen=True)
class Animation:
    """A finished animation; `motion` is the one that was carried out (never "auto").

    `frames` counts those in the file: 24, fewer where neighbours do not differ, and 1 for a still picture.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    frames: int
    duration_ms: int
    motion: str


class AnimateModel:
    """A loaded model. Immutable after loading, hence safe to share between threads."""

    name = "animate"
    motions: tuple[str, ...] = ("auto", *(str(motion) for motion in Motion))

    def __init__(self, weights: Path | None = None) -> None:
        """Use `load`."""
        self._network, self.digest = checkpoint.load(weights)
        self.variant_id = f"animate-v1/ddim{SAMPLER_STEPS}/fp32"

    @classmethod
    def load(cls, weights: Path | None = None) -> "AnimateModel":
        """Load weights from a file, or the packaged ones. Raises WeightsRejected."""
        return cls(weights)

    def generate(
        self,
        photo: bytes,
        *,
        motion: str = "auto",
        strength: float = 1.0,
        direction_degrees: float = 0.0,
        seed: int = 0,
        on_step: Callable[[Progress], None] = lambda progress: None,
    ) -> Animation:
        """Animate a photo.

        photo: a PNG, JPEG or WebP file. motion: one of `motions`; "auto" takes drift, ripple or sway, whichever the
        network is surest to see in the photo, and parallax if it is sure of none. A motion whose subject is not in the
        photo (no water to ripple, say) is replaced by parallax, and the result says so. strength: 0 (still) to 2.
        direction_degrees: 0 is right, 90 is down. seed: any integer in [0, 2**63).
        Returns an animated WebP. Raises PhotoRejected, InputRejected, and whatever on_step raises.
        """
        _check(motion, strength, direction_degrees, seed)
        steps = 2 + SAMPLER_STEPS + FRAMES + 1
        done = 0

        def advance(stage: str) -> None:
            nonlocal done
            done += 1
            on_step(Progress(stage, done, steps))

        pixels = torch.from_numpy(decode(photo, SIDE_PX_MAX)).permute(2, 0, 1).contiguous()
        advance("decode")
        with torch.inference_mode():
            seen = _as_network_sees(pixels)
            noise = noise_for_seeds([seed], (FACTOR_CHANNELS, GRID, GRID))
            chosen = self._choose(seen, noise, motion)
            advance("denoise")
            factors = refine(self._factors(seen, noise, chosen, lambda: advance("denoise")), seen, chosen)
            coefficients = compose(
                factors,
                torch.tensor([chosen.label]),
                torch.tensor([strength]),
                torch.tensor([math.radians(direction_degrees)]),
                warp.aspect_of(*pixels.shape[-2:]),
            )[0]
            images = []
            for frame in warp.frames(pixels, coefficients, FRAMES):
                images.append(Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()))
                advance("warp")
        data, frames = _encode(images)
        advance("encode")
        width, height = images[0].size
        return Animation(data, "image/webp", width, height, frames, FRAMES * FRAME_MS, str(chosen))

    def _choose(self, seen: Tensor, noise: Tensor, motion: str) -> Motion:
        """The motion to carry out, from one look for each motion in question.

        A look is a single denoising step from pure noise, which gives the mean of all regions that the network thinks
        possible. Its confidence is the mean of that region weighted by itself: near 1 where the network is sure,
        low where it merely hedges.
        """
        if motion in (Motion.PARALLAX, Motion.ZOOM):
            return Motion(motion)
        candidates = list(AUTO_CONFIDENCE) if motion == "auto" else [Motion(motion)]
        count = len(candidates)
        labels = torch.tensor([candidate.label for candidate in candidates])
        noise, seen = noise.expand(count, -1, -1, -1), seen.expand(count, -1, -1, -1)
        look = self._network(noise, seen, labels, torch.ones(count))
        region = ((look[:, REGION] + 1) / 2).clamp(0, 1).flatten(1)
        if motion == "auto":
            confidence = region.square().sum(1) / region.sum(1).clamp_min(1e-6)
            margin = confidence - torch.tensor([AUTO_CONFIDENCE[candidate] for candidate in candidates])
        else:
            margin = region.amax(1) - SEEN_MIN
        if Motion.DRIFT in candidates and drift_texture(look[:1], seen[:1]) < DRIFT_TEXTURE_MIN:
            margin[0] = -1.0
        best = int(margin.argmax())
        return candidates[best] if margin[best] >= 0 else STAND_IN

    def _factors(self, seen: Tensor, noise: Tensor, motion: Motion, advance: Callable[[], None]) -> Tensor:
        labels = torch.tensor([motion.label])
        return sample(
            lambda noisy, time: self._network(noisy, seen, labels, time), noise, SAMPLER_STEPS, lambda step: advance()
        )


def _check(motion: str, strength: float, direction_degrees: float, seed: int) -> None:
    if motion not in AnimateModel.motions:
        near = difflib.get_close_matches(motion, AnimateModel.motions, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(AnimateModel.motions)
        raise InputRejected(f"There is no motion {motion!r}.{hint} Known motions: {known}.", "motion")
    if not 0 <= strength <= STRENGTH_MAX:
        raise InputRejected(f"strength must be in 0..{STRENGTH_MAX:g}, not {strength}.", "strength")
    if not math.isfinite(direction_degrees):
        raise InputRejected(f"direction_degrees must be a finite number, not {direction_degrees}.", "direction_degrees")
    if not 0 <= seed <= SEED_MAX:
        raise InputRejected(f"seed must be in 0..{SEED_MAX}, not {seed}.", "seed")


def _as_network_sees(pixels: Tensor) -> Tensor:
    """(3, H, W) uint8 -> (1, 3, 96, 96) float32 in [-1, 1], squeezed to a square."""
    small = functional.interpolate(pixels[None].float(), (PHOTO_PX, PHOTO_PX), mode="bilinear", antialias=True)
    return small / 127.5 - 1


def _encode(images: list[Image.Image]) -> tuple[bytes, int]:
    """The WebP file and the number of frames in it: the encoder joins frames that do not differ."""
    output = BytesIO()
    images[0].save(
        output,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=FRAME_MS,
        loop=0,
        quality=WEBP_QUALITY,
        method=WEBP_METHOD,
    )
    with Image.open(output, formats=("WEBP",)) as written:
        return output.getvalue(), int(getattr(written, "n_frames", 1))
