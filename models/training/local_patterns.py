"""How often each of a fixed set of short patterns occurs in a series, at several scales.

The patterns are the 84 kernels of MiniRocket (A. Dempster et al., 2021): nine steps, three of weight
2 and six of weight -1, dilated. Of each the share of steps where it answers more than a threshold is
kept, which says what a series is made of whatever the hour at which it happens. Thresholds stand in units of the
kernel's own deviation over the series, and the share counts a soft step, so that rounding cannot flip it.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

RESAMPLED = 256
DILATIONS = (1, 2, 4, 8, 16, 32)
THRESHOLDS = (-0.7, 0.0, 0.7)
KERNELS = 84
PATTERNS = 2 * KERNELS * len(DILATIONS) * len(THRESHOLDS)
SOFT = 0.3


def resampled(values: Tensor, present: Tensor) -> Tensor:
    """A series (n, t, 16) at 256 even places (n, 256): averages of boxes no narrower than a step.

    Leading patches without any value are left out, so that padding does not squeeze a series.
    """
    flat, known = values.flatten(1), present.flatten(1)
    length = flat.shape[1]
    # Steps before the first known one; the rest stands for the series.
    first = (known.cumsum(1) == 0).sum(1, keepdim=True).to(flat.dtype)
    first = first.clamp(max=length - 1)
    total = functional.pad(flat.double().cumsum(1), (1, 0))
    span = length - first
    width = (span / RESAMPLED).clamp(min=1.0)
    even = (torch.arange(RESAMPLED, dtype=flat.dtype, device=flat.device) + 0.5) / RESAMPLED
    centre = first + width / 2 + (span - width) * (even - even[0]) / (even[-1] - even[0])

    def at(place: Tensor) -> Tensor:
        place = place.clamp(min=0, max=length)
        low = place.floor().clamp(max=length - 1)
        share = (place - low).double()
        index = low.long()
        return total.gather(1, index) * (1 - share) + total.gather(1, index + 1) * share

    return ((at(centre + width / 2) - at(centre - width / 2)) / width).to(flat.dtype)


def standardised(flat: Tensor, known: Tensor) -> Tensor:
    """Rows of mean 0 and deviation 1 over their known steps; 0 elsewhere and for constant rows."""
    count = known.sum(1, keepdim=True).clamp(min=1.0)
    centred = (flat - (flat * known).sum(1, keepdim=True) / count) * known
    spread = (centred.pow(2).sum(1, keepdim=True) / count).sqrt()
    return centred / (spread + 1e-3)


class LocalPatterns(nn.Module):
    """Shares of patterns in the series and in its log-compressed form."""

    def __init__(self) -> None:
        super().__init__()
        kernels = torch.full((KERNELS, 1, 9), -1.0)
        for row, places in enumerate(itertools.combinations(range(9), 3)):
            kernels[row, 0, list(places)] = 2.0
        self.register_buffer("kernels", kernels, persistent=False)

    def shares(self, rows: Tensor, known: Tensor) -> Tensor:
        """Shares (n, 84 * 6 * 3) less a half over the known steps of rows (n, L)."""
        count = known.sum(1).clamp(min=1.0)[:, None]
        weight = (known / count)[..., None]
        found = []
        for dilation in DILATIONS:
            answer = functional.conv1d(
                rows[:, None], self.kernels, dilation=dilation, padding=4 * dilation
            )
            spread = (answer.pow(2) @ weight).sqrt() + 1e-2
            scaled = answer / spread
            for threshold in THRESHOLDS:
                share = ((scaled - threshold) / SOFT + 0.5).clamp(0, 1) @ weight
                # A kernel longer than the series says nothing.
                found.append((share[..., 0] - 0.5) * (count > 8 * dilation))
        return torch.cat(found, 1)

    def forward(self, linear: Tensor, quiet: Tensor, present: Tensor) -> Tensor:
        """Shares (n, 3024) from normalised patches (n, t, 16), each view of unit length."""
        known = present.flatten(1)
        rows = [standardised(view.flatten(1), known) for view in (linear, quiet)]
        return torch.cat(
            [functional.normalize(self.shares(row, known), dim=-1) for row in rows], -1
        )
