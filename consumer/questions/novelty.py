"""How unlike its past a day is: pure arithmetic on day rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unlikeness(vectors: NDArray[np.float32]) -> list[float | None]:
    """One minus the cosine to the nearest earlier day; None for the first day.

    Args:
        vectors: float32 (days, d), oldest first, each of length 1.
    """
    values: list[float | None] = []
    for row in range(len(vectors)):
        if row == 0:
            values.append(None)
            continue
        nearest = float((vectors[:row] @ vectors[row]).max())
        values.append(max(0.0, 1.0 - nearest))
    return values


def calibrated(values: list[float | None]) -> list[float | None]:
    """Each value as its place among the days before it, 0 (ordinary) to 1 (unlike anything).

    The place is that of the empirical distribution of all earlier values with itself added,
    counting ties half: (below + ties / 2 + 1 / 2) / (n + 1). With no earlier value it is 1/2: one
    day alone says nothing. None stays None.
    """
    places: list[float | None] = []
    earlier: list[float] = []
    for value in values:
        if value is None:
            places.append(None)
            continue
        below = sum(one < value for one in earlier)
        ties = sum(one == value for one in earlier)
        places.append(round((below + ties / 2 + 0.5) / (len(earlier) + 1), 6))
        earlier.append(value)
    return places
