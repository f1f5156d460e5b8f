"""Rows that lie as the rows of the semantic index do, drawn in bulk.

How those lie was measured on 150 of the 1,062 distinct descriptions of the shipped flows, embedded
by MiniLM: their mean has a length of 0.85; around it 10 directions hold 0.82 of what varies and 50
hold 0.997; two descriptions have a cosine of 0.48, 0.71 and 0.97 (5 %, half, 95 %), the nearest
0.86, 0.99 and 0.998, the tenth 0.64, 0.94 and 0.98. Here a row is such a mean plus one of 300
behaviours, one of 40 variants of it and noise, all three along 64 directions whose share falls in
about the same way. A query is drawn like a row and stored nowhere. `python -m benchmarks.vectors`
prints how drawn rows lie, in the same words.
"""

from __future__ import annotations

import json
from functools import cache

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
MEAN = 0.85
DIRECTIONS = 64
#: The share of each direction falls by this factor from one to the next; see the figures above.
FALL = 0.85
BEHAVIOURS = 300
VARIANTS = 40
#: How much of what varies is the behaviour, the variant, and the row's own.
SHARES = (0.65, 0.3, 0.05)
SHOWN = 500


@cache
def _world(dimension: int) -> tuple[Vectors, Vectors, Vectors, Vectors]:
    """Mean, directions scaled by their share, and the places of behaviours and variants there."""
    draw = np.random.default_rng(7)
    frame = np.linalg.qr(draw.standard_normal((dimension, DIRECTIONS + 1)))[0].T
    share = FALL ** np.arange(DIRECTIONS)
    scale = np.sqrt((1 - MEAN**2) * share / share.sum())
    behaviours = draw.standard_normal((BEHAVIOURS, DIRECTIONS))
    variants = draw.standard_normal((BEHAVIOURS, VARIANTS, DIRECTIONS))
    parts = (MEAN * frame[0], frame[1:] * scale[:, None], behaviours, variants)
    mean, directions, of_behaviour, of_variant = (part.astype(np.float32) for part in parts)
    return mean, directions, of_behaviour, of_variant


def draw_rows(seed: int, rows: int, dimension: int) -> Vectors:
    """Unit vectors, float32 (rows, dimension); the same for the same seed."""
    draw = np.random.default_rng(seed)
    mean, directions, behaviours, variants = _world(dimension)
    # Few behaviours make most of the traffic.
    behaviour = np.minimum(draw.exponential(BEHAVIOURS / 6, rows), BEHAVIOURS - 1).astype(np.int64)
    variant = draw.integers(VARIANTS, size=rows)
    share = np.sqrt(np.array(SHARES, np.float32))
    place = draw.standard_normal((rows, DIRECTIONS), dtype=np.float32) * share[2]
    place += share[0] * behaviours[behaviour] + share[1] * variants[behaviour, variant]
    made: Vectors = mean + place @ directions
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def geometry(vectors: Vectors) -> dict[str, float | list[float]]:
    """How rows lie: length of the mean, what 10 and 50 directions hold, cosines (5 %, half, 95 %)."""
    mean = vectors.mean(axis=0)
    spread = np.linalg.svd(vectors - mean, compute_uv=False) ** 2
    held = np.cumsum(spread) / spread.sum()
    cosines = vectors @ vectors.T
    pairs = cosines[np.triu_indices(len(vectors), 1)]
    np.fill_diagonal(cosines, -1)
    ordered = np.sort(cosines, axis=1)
    named = {"two": pairs, "nearest": ordered[:, -1], "tenth": ordered[:, -10]}
    return {
        "mean": round(float(np.linalg.norm(mean)), 3),
        "held_by_10": round(float(held[9]), 3),
        "held_by_50": round(float(held[49]), 3),
    } | {
        name: [round(float(q), 3) for q in np.quantile(values, (0.05, 0.5, 0.95))]
        for name, values in named.items()
    }


if __name__ == "__main__":
    print(json.dumps(geometry(draw_rows(1, SHOWN, 384)), indent=1))
