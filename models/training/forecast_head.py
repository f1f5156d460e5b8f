"""The forecasting head: a learned mixture of seasonal forecasts, and what the trunk adds to it.

To find a period and carry it on is hard to learn from nothing and easy to build in (the idea of
Autoformer, H. Wu et al., 2021): the periods are the peaks of the autocorrelation of the past. Each
gives three forecasts, and last value and mean two more; each is tried on the last 64 known steps. From
these errors, the forecasts themselves and the trunk's state of the absent patch, a small network mixes
them and sets the quantiles. The head is for training and measurement; the shipped graph lacks it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PERIODS = 4
CANDIDATES = 3 * PERIODS + 2
HORIZON = 64
SMALLEST = 2
COMB = 8


def autocorrelation(past: Tensor, present: Tensor) -> Tensor:
    """Correlation (n, L) of each series (n, L) with itself by lag, over known pairs."""
    length = past.shape[1]
    known = present * 1.0
    mean = (past * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    centred = (past - mean) * known
    size = 1 << (2 * length - 1).bit_length()
    spectra = [torch.fft.rfft(part, size) for part in (centred, known, centred**2)]
    pairs, squares = spectra[0].abs() ** 2, spectra[2] * spectra[1].conj()
    product = torch.fft.irfft(pairs, size)[:, :length]
    either = torch.fft.irfft(squares, size)
    later = either[:, :length]
    earlier = torch.cat((either[:, :1], either[:, -(length - 1) :].flip(1)), 1)
    return product / ((later.clamp(min=0) * earlier.clamp(min=0)).sqrt() + 1e-3)


def periods_of(past: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest periods (n, 4) and their autocorrelation (n, 4), best first.

    A peak is preferred to its multiples, which are as high, by a small charge on long lags.
    """
    found = autocorrelation(past, present)
    length = found.shape[1]
    lags = torch.arange(length // 2 + 1)
    # Mean over the multiples by pairs: noise blurs one lag, and an error of one step grows with each.
    comb, count = torch.zeros_like(found[:, : len(lags)]), torch.zeros(len(lags))
    for multiple in range(1, COMB + 1):
        pairs = (length - lags * multiple).clamp(min=0).float()
        comb = comb + found[:, (lags * multiple).clamp(max=length - 1)] * pairs
        count = count + pairs
    comb = comb / count
    middle = comb[:, 1:-1]
    peak = (middle >= comb[:, :-2]) & (middle >= comb[:, 2:])
    score = torch.where(peak, middle, middle - 0.3) - 0.02 * torch.log2(lags[1:-1] + 1.0)
    score[:, : SMALLEST - 1] = -9.0
    best = score.topk(min(PERIODS, score.shape[1]), 1).indices
    best = functional.pad(best, (0, PERIODS - best.shape[1]), mode="replicate")
    return best + 1, comb.gather(1, best + 1)


def candidates(past: Tensor, periods: Tensor) -> Tensor:
    """Forecasts (n, 14, 64) from normalised past values (n, L) with gaps filled.

    For each period: the last cycle; the mean of up to eight cycles; that mean moved to the level of the
    last cycle. Then the last value, and the mean of the last 64.
    """
    n, length = past.shape
    steps = torch.arange(HORIZON)
    made = []
    for which in range(periods.shape[1]):
        period = periods[:, which, None]
        back = (steps // period + 1) * period
        cycles = []
        for cycle in range(8):
            place = length + steps - back - cycle * period
            cycles.append((past.gather(1, place.clamp(min=0)), (place >= 0).float()))
        known = torch.stack([mask for _, mask in cycles])
        values = torch.stack([value for value, _ in cycles])
        mean = (values * known).sum(0) / known.sum(0).clamp(min=1)
        covered = (steps < period).float()  # each place of the cycle once
        gap = ((values[0] - mean) * covered).sum(1) / covered.sum(1).clamp(min=1)
        made += [values[0], mean, mean + gap[:, None]]
    level = past[:, -HORIZON:].mean(1, keepdim=True)
    return torch.stack([*made, past[:, -1:].expand(n, HORIZON), level.expand(n, HORIZON)], 1)


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

    def forward(self, states: Tensor, past: Tensor, present: Tensor) -> Tensor:
        """Quantiles (n, 4, 16, 9) from states (n, 4, width) of the absent patches after `past` (n, L)."""
        with torch.no_grad():
            filled = past * present
            periods, strength = periods_of(filled, present)
            made = candidates(filled, periods)
            cut = min(HORIZON, past.shape[1] // 3)
            tried = candidates(filled[:, :-cut], periods)[..., :cut]
            miss = (tried - filled[:, None, -cut:]).abs() * present[:, None, -cut:]
            error = miss.sum(-1) / present[:, None, -cut:].sum(-1).clamp(min=1)
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
