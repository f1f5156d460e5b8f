"""A small encoder in the style of Chronos-Bolt, written anew.

Input: `series` float32 (n, L), NaN = absent, L from 1 to 2,048. Output: 512 numbers per series.
Patches of 16 steps (the stem also sees those half-way between), instance normalisation inside the network, bidirectional attention with
rotary positions, quantiles of absent patches as the training target (an absent patch at the
right end is a forecast). See models/cards/timeseries.md for what is ours and what is not.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.evaluate_forecast import QUANTILES
from models.training.forecast_head import ForecastHead
from models.training.local_patterns import PATTERNS, LocalPatterns, resampled

PATCH = 16
SHAPE_WIDTH = 480
SCALE_WIDTH = 32
SEGMENTS = 8
LOCAL = 48
SUMMARISED = 3  # stem, last layer, last layer over the resampled series


class Norm(nn.Module):
    """Root mean square normalisation (B. Zhang, R. Sennrich, 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, 1e-6)


class Residual(nn.Module):
    """One hidden layer beside a linear path, as at both ends of Chronos-Bolt."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Linear(inputs, hidden)
        self.down = nn.Linear(hidden, outputs)
        self.skip = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x))) + self.skip(x)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions (J. Su et al., 2021) on (n, heads, t, d)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)


class Block(nn.Module):
    """Bidirectional attention and a two-layer perceptron, each normalised before."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = Norm(width), Norm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, bias: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        n, t, width = x.shape
        qkv = self.qkv(self.before_attention(x)).view(n, t, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        mixed = functional.scaled_dot_product_attention(
            query.to(value.dtype), key.to(value.dtype), value, bias.to(value.dtype)
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, width))
        return x + self.down(functional.gelu(self.up(self.before_mlp(x))))


class States(NamedTuple):
    """What the trunk leaves: last layer and stem (n, t, width), and which of them saw a value.

    `whole` (n, 31, width) is the last layer over the series resampled to 256 steps.
    """

    last: Tensor
    seen: Tensor
    whole: Tensor
    stem: Tensor
    stem_seen: Tensor
    location: Tensor
    scale: Tensor
    linear: Tensor
    quiet: Tensor
    present: Tensor


def windows(patches: Tensor) -> Tensor:
    """Windows of 16 every 8 steps (n, 2 t - 1, 16) of patches (n, t, 16)."""
    halves = patches.reshape(patches.shape[0], -1, PATCH // 2)
    return torch.cat((halves[:, :-1], halves[:, 1:]), -1)


class SeriesEncoder(nn.Module):
    """Everything from raw values to patch states, quantiles and the pooled vector."""

    def __init__(self, width: int = 320, layers: int = 6, heads: int = 5, hidden: int = 1024):
        super().__init__()
        self.width, self.heads = width, heads
        self.patch_in = Residual(3 * PATCH, width, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(layers))
        self.final = Norm(width)
        # Tells the trunk that a patch is of the resampled series.
        self.of_whole = nn.Parameter(torch.zeros(width))
        self.quantiles = Residual(width, width, PATCH * len(QUANTILES))
        self.ahead = ForecastHead(width, PATCH, len(QUANTILES))
        self.patterns = LocalPatterns()
        # Fixed orthogonal rows shrink a state before it is kept per segment.
        generator = torch.Generator().manual_seed(5)
        # They are stored in half precision.
        rows = torch.linalg.qr(torch.randn(width, LOCAL, generator=generator)).Q.half().float()
        self.register_buffer("local", rows, persistent=False)
        self.summary_width = 3 * width + SEGMENTS * LOCAL
        self.pool = nn.Linear(SUMMARISED * self.summary_width + PATTERNS, SHAPE_WIDTH)
        angles = 10_000.0 ** (-torch.arange(0, width // heads, 2) / (width // heads))
        self.register_buffer("angles", angles, persistent=False)
        # Pseudo-random features of a Gaussian kernel, 2.5 doublings wide, over location and scale.
        generator.manual_seed(7)
        waves = torch.randn(3, SCALE_WIDTH // 2, generator=generator) / 2.5
        self.register_buffer("waves", waves, persistent=False)
        self.scale_weight = 0.45

    @staticmethod
    def patched(series: Tensor) -> tuple[Tensor, Tensor]:
        """Values and presence as (n, patches, 16); absent steps are added on the left."""
        n, length = series.shape
        patches = (length + PATCH - 1) // PATCH
        absent = torch.full_like(series[:, :1], math.nan).expand(n, PATCH - 1)
        padded = torch.cat((absent, series), 1)[:, length + PATCH - 1 - patches * PATCH :]
        padded = padded.reshape(n, patches, PATCH)
        present = torch.isfinite(padded)
        return torch.where(present, padded, torch.zeros_like(padded)), present.float()

    @staticmethod
    def moments(values: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the present steps; 1 where a series is constant."""
        count = present.sum((1, 2), keepdim=True).clamp(min=1.0)
        location = (values * present).sum((1, 2), keepdim=True) / count
        # A second pass takes away the rounding of the first: a constant series must be constant.
        rest = ((values - location) * present).sum((1, 2), keepdim=True) / count
        location = location + rest
        spread = ((values - location) * present).pow(2).sum((1, 2), keepdim=True) / count
        scale = spread.sqrt()
        flat = scale <= 1e-5 * location.abs().clamp(min=1e-5)
        return location, torch.where(flat, torch.ones_like(scale), scale)

    def normalised(self, values: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        location, scale = self.moments(values, present)
        linear = torch.asinh((values - location) / scale) * present
        compressed = torch.sign(values) * torch.log1p(values.abs())
        middle, width = self.moments(compressed, present)
        quiet = torch.asinh((compressed - middle) / width) * present
        return linear, quiet, location, scale

    def trunk(self, x: Tensor, seen: Tensor, pace: float) -> Tensor:
        """The last layer (n, t, width) over patches that stand `pace` patches apart."""
        bias = ((seen - 1.0) * 1e4)[:, None, None, :].expand(-1, -1, x.shape[1], -1)
        steps = torch.arange(x.shape[1], device=x.device, dtype=torch.float32) * pace
        turn = steps[:, None] * self.angles[None, :]
        cosine, sine = turn.cos(), turn.sin()
        for block in self.blocks:
            x = block(x, bias, cosine, sine)
        return self.final(x)

    def states(self, values: Tensor, present: Tensor, ahead: int = 0) -> States:
        """Runs the trunk on patches of 16, and the stem also on the windows half-way between.

        The last `ahead` patches are to be forecast: the resampled series ends before them.
        """
        linear, quiet, location, scale = self.normalised(values, present)
        stem = self.patch_in(torch.cat([windows(c) for c in (linear, quiet, present)], -1))
        seen = windows(present).amax(-1)
        last = self.trunk(stem[:, ::2], seen[:, ::2], 1.0)
        known = present[:, : present.shape[1] - ahead]
        parts = (part[:, : part.shape[1] - ahead] for part in (linear, quiet))
        short = [resampled(part, known).unflatten(-1, (-1, PATCH)) for part in parts]
        short.append(torch.ones_like(short[0]))
        patches = self.patch_in(torch.cat([windows(c) for c in short], -1)) + self.of_whole
        whole = self.trunk(patches, torch.ones_like(patches[..., 0]), 0.5)
        return States(
            last, seen[:, ::2], whole, stem, seen, location, scale, linear, quiet, present
        )

    def predict(self, states: Tensor) -> Tensor:
        """Quantiles (n, t, 16, 9) of the normalised values of each patch."""
        return self.quantiles(states).unflatten(-1, (PATCH, len(QUANTILES)))

    def carry_on(self, found: States, ahead: int) -> Tensor:
        """Quantiles (n, 4, 16, 9) of the absent patches at the right end, asinh of normalised values."""
        before = self.past(found, ahead)
        parts = (before.linear, before.present, found.location, found.scale)
        return self.ahead_of(found.last[:, -ahead:], *parts)

    def ahead_of(
        self, states: Tensor, linear: Tensor, present: Tensor, location: Tensor, scale: Tensor
    ) -> Tensor:
        """As `carry_on`, from the states (n, 4, width) of the absent patches and the patches before."""
        past = torch.sinh(linear.clamp(-5, 5)).flatten(1)
        zero = (-location / scale).flatten(1)
        return self.ahead(states, past, present.flatten(1), zero)

    @staticmethod
    def in_units(ahead: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """Quantiles (n, 64, 9) in the unit of the series, in order, from what `carry_on` gives."""
        normalised = torch.sinh(ahead.flatten(1, 2).clamp(-12, 12))
        return (normalised * scale + location).sort(-1).values

    def forecast(self, series: Tensor, ahead: int) -> Tensor:
        """Quantiles (n, 16 x ahead, 9) of the steps after raw series (n, L)."""
        values, present = self.patched(series)
        location, scale = self.moments(values, present)
        unknown = torch.zeros_like(values[:, :1]).expand(-1, ahead, -1)
        found = self.states(torch.cat((values, unknown), 1), torch.cat((present, unknown), 1))
        return self.in_units(self.carry_on(found, ahead), location, scale)

    def summary(self, states: Tensor, seen: Tensor) -> Tensor:
        """Mean, deviation, maximum and soft segments of the seen states, each of unit length."""
        states, seen = states.float(), seen[..., None]
        total = seen.sum(1).clamp(min=1.0)
        mean = (states * seen).sum(1) / total
        spread = (((states - mean[:, None]) * seen).pow(2).sum(1) / total + 1e-6).sqrt()
        highest = torch.where(seen > 0, states, torch.full_like(states, -50.0)).amax(1)
        # Where a patch stands between the first and the last seen one.
        rank = (seen.cumsum(1) - 0.5) / total[:, None]
        centres = (torch.arange(SEGMENTS, device=states.device) + 0.5) / SEGMENTS
        near = torch.exp(-(((rank - centres) * SEGMENTS * 1.2) ** 2)) * seen
        near = near / (near.sum(1, keepdim=True) + 1e-4)
        places = (near.transpose(1, 2) @ (states @ self.local)).flatten(1)
        parts = (mean, spread, highest, places)
        return torch.cat([functional.normalize(part, dim=-1) for part in parts], -1)

    def summaries(self, found: States) -> Tensor:
        """Summaries (n, 3 x 1344) of the stem, of the last layer, and of it over the resampled series."""
        parts = (
            self.summary(found.stem, found.stem_seen),
            self.summary(found.last, found.seen),
            self.summary(found.whole, torch.ones_like(found.whole[..., 0])),
        )
        return torch.cat(parts, -1)

    @staticmethod
    def past(found: States, ahead: int) -> States:
        """The states without the `ahead` absent patches at the right end."""
        half = 2 * ahead
        return States(
            found.last[:, :-ahead],
            found.seen[:, :-ahead],
            found.whole,
            found.stem[:, :-half],
            found.stem_seen[:, :-half],
            found.location,
            found.scale,
            *(part[:, :-ahead] for part in (found.linear, found.quiet, found.present)),
        )

    def features(self, found: States) -> Tensor:
        """Everything that the shape is made of (n, 4032 + 3024)."""
        patterns = self.patterns(found.linear, found.quiet, found.present)
        return torch.cat((self.summaries(found), patterns), -1)

    def shape(self, found: States) -> Tensor:
        """The learned part of the vector (n, 480), of unit length."""
        return functional.normalize(self.pool(self.features(found)), dim=-1)

    def scale_code(self, values: Tensor, present: Tensor) -> Tensor:
        """Bounded code (n, 32), of unit length, of how large a series is: near for near sizes."""
        location, scale = self.moments(values, present)
        top = (values.abs() * present).amax((1, 2), keepdim=True)
        sizes = torch.cat((location.abs(), scale, top), -1).squeeze(1)
        turn = torch.log2(1.0 + sizes) @ self.waves
        return torch.cat((turn.cos(), turn.sin()), -1) / math.sqrt(SCALE_WIDTH / 2)

    def forward(self, series: Tensor) -> Tensor:
        values, present = self.patched(series)
        shape = self.shape(self.states(values, present))
        code = self.scale_code(values, present) * self.scale_weight
        return functional.normalize(torch.cat((shape, code), -1), dim=-1)
