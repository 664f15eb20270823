"""The U-Net that looks at a photo and denoises factor maps.

The photo enters at twice the resolution of the maps, because edges say where things end. The label and the noise level
enter every block as a scale and a shift after normalisation (FiLM, Perez et al. 2018): a label that is merely
concatenated as constant planes is erased by normalisation. Self-attention sits at the lowest resolution only, where 36
positions cost nothing and let one object know of another.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.animate.motion import FACTOR_CHANNELS, GRID, LABELS

PHOTO_PX = 2 * GRID
"""Side of the square photo that the network sees, whatever the shape of the original."""


@dataclass(frozen=True)
class Architecture:
    """Everything needed to rebuild the network; stored with the weights."""

    widths: tuple[int, int, int] = (48, 96, 160)
    condition_width: int = 160
    stem_width: int = 24


class Block(nn.Module):
    """Residual block: two 3x3 convolutions, conditioned between them."""

    def __init__(self, inputs: int, outputs: int, condition_width: int) -> None:
        super().__init__()
        self.normalise_in = nn.GroupNorm(8, inputs)
        self.convolve_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.condition = nn.Linear(condition_width, 2 * outputs)
        self.normalise_out = nn.GroupNorm(8, outputs)
        self.convolve_out = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.convolve_out.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (B, inputs, H, W), condition: (B, condition_width) -> (B, outputs, H, W)."""
        scale, offset = self.condition(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.convolve_in(functional.silu(self.normalise_in(x)))
        hidden = functional.silu(self.normalise_out(hidden) * (1 + scale) + offset)
        result: Tensor = self.skip(x) + self.convolve_out(hidden)
        return result


class Attention(nn.Module):
    """Self-attention over all positions, with four heads."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.normalise = nn.GroupNorm(8, width)
        self.project_in = nn.Conv2d(width, 3 * width, 1)
        self.project_out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.project_out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, width, H, W) -> same."""
        batch, width, height, columns = x.shape
        packed = self.project_in(self.normalise(x)).reshape(batch, 3, self.heads, width // self.heads, height * columns)
        query, key, value = packed.transpose(-1, -2).unbind(1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = x + self.project_out(mixed.transpose(-1, -2).reshape(batch, width, height, columns))
        return result


def embed_time(time: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of time (B,) in [0, 1]: (B, width) (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(-log(1000.0) * torch.arange(width // 2, device=time.device) / (width // 2))
    angle = 1000.0 * time[:, None] * rates
    return torch.cat((angle.cos(), angle.sin()), dim=1)


class MotionNetwork(nn.Module):
    """Predicts clean factor maps from noisy ones, a photo and a motion label."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        low, middle, high = architecture.widths
        width, stem = architecture.condition_width, architecture.stem_width
        self.label = nn.Embedding(len(LABELS), width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.see_photo = nn.Conv2d(3 + 2, stem, 5, stride=2, padding=2)
        self.see_detail = nn.Conv2d(stem, stem, 3, padding=1)
        self.enter = nn.Conv2d(stem + FACTOR_CHANNELS, low, 4, stride=2, padding=1)
        self.down_low = nn.ModuleList([Block(low, low, width), Block(low, low, width)])
        self.to_middle = nn.Conv2d(low, middle, 3, stride=2, padding=1)
        self.down_middle = nn.ModuleList([Block(middle, middle, width), Block(middle, middle, width)])
        self.to_high = nn.Conv2d(middle, high, 3, stride=2, padding=1)
        self.high_in = Block(high, high, width)
        self.attend = Attention(high)
        self.high_out = Block(high, high, width)
        self.from_high = nn.Conv2d(high, middle, 1)
        self.up_middle = nn.ModuleList([Block(2 * middle, middle, width), Block(middle, middle, width)])
        self.from_middle = nn.Conv2d(middle, low, 1)
        self.up_low = nn.ModuleList([Block(2 * low, low, width), Block(low, low, width)])
        self.leave = nn.Conv2d(low, 4 * stem, 1)
        self.merge = nn.Conv2d(2 * stem, 2 * stem, 3, padding=1)
        self.predict = nn.Conv2d(2 * stem, FACTOR_CHANNELS, 3, padding=1)

    def forward(self, noisy: Tensor, photo: Tensor, labels: Tensor, time: Tensor) -> Tensor:
        """Predict x_0.

        noisy: (B, 13, 48, 48) float32; photo: (B, 3, 96, 96) in [-1, 1]; labels: (B,) int64; time: (B,) in [0, 1].
        Returns (B, 13, 48, 48).
        """
        condition = functional.silu(self.label(labels) + self.time(embed_time(time, 64)))
        seen = functional.silu(self.see_photo(torch.cat((photo, _coordinates(photo)), dim=1)))
        seen = functional.silu(self.see_detail(seen))
        x = self.enter(torch.cat((seen, noisy), dim=1))
        for block in self.down_low:
            x = block(x, condition)
        skip_low = x
        x = self.to_middle(x)
        for block in self.down_middle:
            x = block(x, condition)
        skip_middle = x
        x = self.high_in(self.to_high(x), condition)
        x = self.high_out(self.attend(x), condition)
        x = torch.cat((_double(self.from_high(x)), skip_middle), dim=1)
        for block in self.up_middle:
            x = block(x, condition)
        x = torch.cat((_double(self.from_middle(x)), skip_low), dim=1)
        for block in self.up_low:
            x = block(x, condition)
        x = functional.pixel_shuffle(self.leave(x), 2)
        x = functional.silu(self.merge(functional.silu(torch.cat((x, seen), dim=1))))
        result: Tensor = self.predict(x)
        return result


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _coordinates(photo: Tensor) -> Tensor:
    """Planes of x and y in [-1, 1], (B, 2, H, W): convolutions cannot otherwise tell the sky from the floor."""
    batch, _, height, width = photo.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack((x, y)).to(photo).expand(batch, 2, height, width)
