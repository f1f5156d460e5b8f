"""How unlike its past a day is: conformal ranks of day rows. Pure arithmetic.

A day's distance is its distance to the nearest other day, one minus the cosine. On the evening of
day t there are t + 1 days, and each of them has such a distance among them, today as well as all
earlier ones: what was usual says how far apart usual days lie. Novelty is the share of these
days that lie strictly nearer to another day than today does, that is one minus the p-value of a
full conformal test (V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World",
2005; as detector of anomalies R. Laxhammar, G. Falkman, 2010).

If today is a day like the others, in whatever order they came, its rank among them is uniform, so
at most one in twenty ordinary days gets 0.95 or more: novelty v is reached by chance with
probability 1 - v at most. Nothing is assumed about the distances. The price is that few days
cannot say much: with n past days novelty is at most n / (n + 1). The first day has none; the
second has 0, for two days are as far from each other as each from the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

Distances = NDArray[np.float64]

# Cosines of float32 rows carry errors of about 1e-7: nearer than this is as near.
TIE = 1e-6


@dataclass(frozen=True, slots=True)
class DayNovelty:
    """How unlike its past one day is.

    Attributes:
        novelty: over all indices, 0 (ordinary) to 1; None for the first day.
        by_index: the same by the rows of each index alone; None where the index does not hold
            the day or holds no earlier one.
        past: how many earlier days it was compared with.
    """

    day: date
    novelty: float | None
    by_index: Mapping[str, float | None]
    past: int


def novelties(
    rows: Mapping[str, tuple[Sequence[date], NDArray[np.float32]]],
) -> list[DayNovelty]:
    """Novelty of every day, oldest first; each is compared with the days before it alone.

    Args:
        rows: by name of the index, its days in ascending order and their rows, float32 (days, d),
            each of length 1.

    Over all indices a day counts by the index in which it ranks highest, so that none drowns the
    others; among days that rank alike the one comes later that lies farther off, in usual distances of
    its index (the median over the days so far). Days are then ranked in that order as by the distances
    of one index, so that the whole is as calibrated as its parts.
    """
    days = sorted({day for held, _ in rows.values() for day in held})
    place = {day: number for number, day in enumerate(days)}
    likeness = {name: _spread(held, vectors, place) for name, (held, vectors) in rows.items()}
    nearest = {name: np.full(len(days), np.inf) for name in rows}
    found: list[DayNovelty] = []
    for today, day in enumerate(days):
        for name, distances in likeness.items():
            to_past = distances[today, :today]
            near = nearest[name]
            near[:today] = np.fmin(near[:today], to_past)
            near[today] = np.fmin.reduce(to_past, initial=np.inf)
        so_far = {name: near[: today + 1] for name, near in nearest.items()}
        found.append(DayNovelty(day, *standing(so_far), today))
    return found


def standing(
    nearest: Mapping[str, Distances],
) -> tuple[float | None, dict[str, float | None]]:
    """Novelty of the last of some days, over all indices and by index.

    Args:
        nearest: by index, the distance of each day to its nearest other one, (days,); infinite
            where the index does not hold the day or holds no other.

    Returns:
        None where the last day's distance is infinite, in an index or in all of them.
    """
    by_index: dict[str, float | None] = {}
    days = max(map(len, nearest.values()), default=0)
    highest, farthest = np.full(days, -1.0), np.full(days, -np.inf)
    for name, near in nearest.items():
        held = np.isfinite(near)
        placed = ranks(near[held])
        by_index[name] = float(placed[-1]) if held[-1:].any() else None
        if held.any():
            highest[held] = np.maximum(highest[held], placed)
            usual = max(float(np.median(near[held])), TIE)
            farthest = np.maximum(farthest, np.where(held, near / usual, -np.inf))
    known = highest >= 0
    if not known[-1:].any():
        return None, by_index
    alike = highest == highest[-1]
    before = (highest < highest[-1]) | (alike & (farthest < farthest[-1] - TIE))
    return float(before[known].mean()), by_index


def ranks(distances: Distances) -> Distances:
    """For each of the distances (n,) the share of them that are smaller."""
    ascending = np.sort(distances)
    return np.searchsorted(ascending, distances - TIE) / max(1, len(distances))


def _spread(
    held: Sequence[date], vectors: NDArray[np.float32], place: Mapping[date, int]
) -> Distances:
    """Distances between all days, float64 (days, days); NaN where the index lacks one of them."""
    distances = np.full((len(place), len(place)), np.nan)
    if held:
        places = [place[day] for day in held]
        distances[np.ix_(places, places)] = np.maximum(0.0, 1.0 - vectors @ vectors.T)
    return distances
