"""The forecasting head: a learned mixture of seasonal forecasts, and what the trunk adds to it.

To find a period and carry it on is hard to learn from nothing and easy to build in (the idea of
Autoformer, H. Wu et al., 2021): the periods are the peaks of the autocorrelation of the past less its
straight line. Each gives five forecasts, two of which let the level go on growing; last value and
mean are two more; each is tried on the last 64 known steps. From these errors, the forecasts
themselves and the trunk's state of the absent patch, a small network mixes them and sets the
quantiles. The head is for training and measurement: the shipped encoder lacks it, and a graph of its own
(`forecast_graph`) has it. So nothing here may depend on a length but through tensors.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.evaluate_forecast import HORIZON

PERIODS = 4
EACH = 5  # forecasts of a period
CANDIDATES = EACH * PERIODS + 2
SPECTRUM = 4096  # steps of the Fourier transform: twice the longest context
COMB = 8
CYCLES = 8
# Periods of clock and calendar: among peaks of one height these are likelier.
USUAL = (4, 5, 7, 12, 24, 48, 52, 60, 96, 144, 168, 288, 336, 1440)
USUAL_BONUS = 0.03


def length_of(past: Tensor) -> Tensor:
    """The steps of series (n, L) as a tensor: a number would be a constant of an exported graph."""
    return torch.ones_like(past[0], dtype=torch.int64).sum()


def straightened(past: Tensor, known: Tensor) -> Tensor:
    """A series (n, L) less the line of least squares through its known steps; 0 where unknown."""
    count = known.sum(1, keepdim=True).clamp(min=1)
    steps = torch.arange(past.shape[1], device=past.device)[None]
    time = 2 * steps / (length_of(past) - 1) - 1
    time = time - (time * known).sum(1, keepdim=True) / count
    centred = past - (past * known).sum(1, keepdim=True) / count
    spread = (time**2 * known).sum(1, keepdim=True).clamp(min=1e-6)
    slope = (centred * time * known).sum(1, keepdim=True) / spread
    return (centred - slope * time) * known


def autocorrelation(past: Tensor, present: Tensor) -> Tensor:
    """Correlation (n, L) of each straightened series (n, L) with itself by lag, over known pairs."""
    length = past.shape[1]
    known = present * 1.0
    centred = straightened(past, known)
    # Two-sided, because ONNX Runtime has no one-sided inverse.
    own, which, square = (torch.fft.fft(part, SPECTRUM) for part in (centred, known, centred**2))
    product = torch.fft.ifft(own * own.conj()).real[:, :length]
    either = torch.fft.ifft(square * which.conj()).real
    later = either[:, :length]
    earlier = torch.cat((either[:, :1], either.flip(1)[:, : length - 1]), 1)
    return product / ((later.clamp(min=0) * earlier.clamp(min=0)).sqrt() + 1e-3)


def periods_of(past: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest periods (n, 4) and their autocorrelation (n, 4), best first, of 16 steps or more.

    A peak is preferred to its multiples, which are as high, by a small charge on long lags.
    """
    found = autocorrelation(past, present)
    length = length_of(past)
    lags = torch.arange(past.shape[1] // 2 + 1, device=past.device)
    # Mean over the multiples by pairs: noise blurs one lag, and an error of one step grows with each.
    multiples = lags * torch.arange(1, COMB + 1, device=past.device)[:, None]
    pairs = (length - multiples).clamp(min=0).float()
    heard = found[:, torch.minimum(multiples, length - 1)] * pairs
    comb = heard.sum(1) / pairs.sum(0)
    middle = comb[:, 1:-1]
    peak = (middle >= comb[:, :-2]) & (middle >= comb[:, 2:])
    score = torch.where(peak, middle, middle - 0.3) - 0.02 * torch.log2(lags[1:-1] + 1.0)
    period = lags[1:-1]
    usual = (period[:, None] == torch.tensor(USUAL, device=past.device)).any(1)
    score = score + USUAL_BONUS * usual
    best = torch.where(period > 1, score, -9.0).topk(PERIODS, 1).indices
    return best + 1, comb.gather(1, best + 1)


def candidates(past: Tensor, periods: Tensor, zero: Tensor) -> Tensor:
    """Forecasts (n, 22, 64) from normalised past values (n, L) with gaps filled.

    For each period (n, 4): the last cycle; the mean of up to eight cycles; that mean moved to the
    level of the last cycle; the last cycle with the change of level between the halves of the past
    going on, as a difference and as a factor. Then the last value, and the mean of the last 64.
    `zero` (n, 1) is what nothing is in normalised units; a series below it grows by differences.
    """
    n, length = past.shape[0], length_of(past)
    steps = torch.arange(HORIZON, device=past.device)
    period = periods[..., None]  # (n, 4, 1)
    turns = steps // period + 1
    place = (length + steps - turns * period)[:, :, None]
    place = place - torch.arange(CYCLES, device=past.device)[:, None] * period[..., None]
    values = past.gather(1, place.clamp(min=0).flatten(1)).view(place.shape)
    known = (place >= 0).float()
    last = values[:, :, 0]
    mean = (values * known).sum(2) / known.sum(2).clamp(min=1)
    covered = (steps < period).float()  # each place of the cycle once
    gap = ((last - mean) * covered).sum(-1, keepdim=True) / covered.sum(-1, keepdim=True)

    span = period[..., 0] * (length // (2 * period[..., 0])).clamp(min=1)  # whole cycles, twice
    total = functional.pad(past.cumsum(1), (1, 0))
    half, begin = (length - span).clamp(min=0), (length - 2 * span).clamp(min=0)
    recent = (total[:, -1:] - total.gather(1, half)) / span
    before = (total.gather(1, half) - total.gather(1, begin)) / span
    fits = (2 * span <= length).float()
    growth = ((recent - before) / span * fits)[..., None] * period * turns
    low = past.amin(1, keepdim=True) - zero
    factor = torch.log((recent - zero).clamp(min=1e-3) / (before - zero).clamp(min=1e-3))
    power = ((factor / span * fits)[..., None] * period * turns).clamp(-2, 2)
    grown = zero[..., None] + (last - zero[..., None]) * torch.exp(power)
    grown = torch.where((low >= -1e-3)[..., None], grown, last + growth)
    made = torch.stack((last, mean, mean + gap, last + growth, grown), 2).flatten(1, 2)
    since = past.shape[1] - torch.sym_min(HORIZON, past.shape[1])
    level = past[:, since:].mean(1, keepdim=True)
    ends = torch.stack((past[:, -1:].expand(n, HORIZON), level.expand(n, HORIZON)), 1)
    return torch.cat((made, ends), 1).clamp(-1e3, 1e3)


class ForecastHead(nn.Module):
    """Quantiles of the 64 steps after a series, in asinh of normalised values.

    Args:
        width: of the trunk's states.
        patch: steps of a patch.
        levels: number of quantiles, the middle one the median.
    """

    def __init__(self, width: int, patch: int, levels: int) -> None:
        super().__init__()
        self.patch, self.levels = patch, levels
        inputs = width + CANDIDATES * patch + CANDIDATES + PERIODS
        self.up = nn.Linear(inputs, width)
        self.mix = nn.Linear(width, CANDIDATES)
        self.offset = nn.Linear(width, patch * levels)
        self.trust = nn.Parameter(torch.tensor(3.0))
        nn.init.zeros_(self.offset.weight)
        with torch.no_grad():
            spread = torch.linspace(-0.5, 0.5, levels).repeat(patch)
            self.offset.bias.copy_(spread)
        nn.init.zeros_(self.mix.weight)

    def forward(self, states: Tensor, past: Tensor, present: Tensor, zero: Tensor) -> Tensor:
        """Quantiles (n, 4, 16, 9) from states (n, 4, width) of the absent patches after `past` (n, L).

        `zero` (n, 1) is a raw value of 0 in the units of `past`.
        """
        with torch.no_grad():
            filled = past * present
            periods, strength = periods_of(filled, present)
            made = candidates(filled, periods, zero)
            cut = torch.sym_min(HORIZON, past.shape[1] // 3)
            before = past.shape[1] - cut
            tried = candidates(filled[:, :before], periods, zero)[..., :cut]
            last, known = filled[:, None, before:], present[:, None, before:]
            error = ((tried - last).abs() * known).sum(-1) / known.sum(-1).clamp(min=1)
            relative = error / (error.amin(1, keepdim=True) + 0.05)
            groups = made.unflatten(-1, (-1, self.patch)).transpose(1, 2)  # (n, 4, 14, 16)
            patches = groups.shape[1]
            squashed = torch.asinh(groups)
            facts = torch.cat((torch.log(error + 0.01), strength), 1)
            facts = facts[:, None].expand(-1, patches, -1)
        hidden = functional.gelu(self.up(torch.cat((states, squashed.flatten(2), facts), -1)))
        logits = self.mix(hidden) - functional.softplus(self.trust) * relative[:, None].clamp(
            max=20
        )
        base = (torch.softmax(logits, -1)[..., None] * groups).sum(2)
        offset = self.offset(hidden).unflatten(-1, (self.patch, self.levels))
        return torch.asinh(base)[..., None] + offset
