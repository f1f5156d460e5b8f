"""Other views of the same series: what a behaviour is still itself after.

Some rows of a batch are stretched (a crop of 70 to 100 % at full length, the one augmentation of
Mantis, V. Feofanov et al., 2025), some get a slowly varying gain, some noise. A row keeps the kind
that it was drawn from, so the contrastive term learns to look through these changes.
"""

import torch
from torch import Tensor

CROP = 0.7  # the shortest share that is stretched
KNOTS = 6


def at_places(rows: Tensor, places: Tensor) -> Tensor:
    """Values (n, m) of rows (n, L) at places (n, m) within 0 and L - 1, by straight lines."""
    low = places.floor().clamp(0, rows.shape[1] - 2)
    share = places - low
    index = low.long()
    return rows.gather(1, index) * (1 - share) + rows.gather(1, index + 1) * share


def varied(rows: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Rows (n, L), each with the chance `share` to be stretched, to swell, and to get noise."""
    n, length = rows.shape

    def drawn(columns: int) -> Tensor:
        return torch.rand(n, columns, generator=generator, device=rows.device)

    chosen = drawn(3) < share
    crop = torch.where(chosen[:, :1], CROP + (1 - CROP) * drawn(1), 1.0)
    start = (1 - crop) * drawn(1)
    even = torch.linspace(0, 1, length, device=rows.device)[None]
    places = ((start + crop * even) * (length - 1)).clamp(0, length - 1)
    rows = torch.where(chosen[:, :1], at_places(rows, places), rows)
    knots = torch.where(chosen[:, 1:2], 0.6 + 0.8 * drawn(KNOTS), 1.0)
    rows = rows * at_places(knots, (even * (KNOTS - 1)).expand(n, -1))
    noise = torch.randn(n, length, generator=generator, device=rows.device)
    level = torch.where(chosen[:, 2:], 0.15 * drawn(1), 0.0)
    return rows + level * noise * rows.std(1, keepdim=True)
