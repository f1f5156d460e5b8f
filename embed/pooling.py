"""From many vectors to one: means, weights, rotations, codes of levels and hours. Pure functions.

All of them compute in float64 and in a fixed order, so that equal input gives equal bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embed.rows import Vectors

Array = NDArray[np.float64]


def normalise(vectors: NDArray[np.floating]) -> Vectors:
    """Rows scaled to length 1, float32, C-contiguous.

    A row of zeros has no direction; it becomes the first axis, so that every row can be searched.
    """
    rows = np.array(vectors, dtype=np.float64, ndmin=2)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    empty = length[:, 0] < 1e-12
    rows[empty] = 0.0
    rows[empty, 0] = 1.0
    length[empty] = 1.0
    return np.ascontiguousarray(rows / length, dtype=np.float32)


def weighted_sum(vectors: NDArray[np.floating], weights: NDArray[np.floating]) -> Array:
    """Sum of w_i v_i, float64 (d,)."""
    total: Array = np.asarray(weights, dtype=np.float64) @ np.asarray(vectors, dtype=np.float64)
    return total


def two_voices(
    vectors: NDArray[np.floating],
    counts: NDArray[np.integer],
    flagged: NDArray[np.bool_],
    *,
    share: float = 0.5,
) -> Vectors:
    """One vector for a day that a rare event can still move, float32 (1, d).

    ``day = normalise((1 - share) u(rest) + share u(flagged))`` where ``u`` is the sum of
    ``log(1 + count_i) v_i`` over its rows, scaled to length 1. A voice without rows is silent.

    Why: a mean over events gives one attack among 10,000 a weight of 1/10,000. Here repetition
    counts by its logarithm, and what the detector flagged speaks with a share of its own that
    does not shrink as ordinary traffic grows: the first flagged event moves the day by about
    `share`, whatever the day's size.
    """
    weights = np.log1p(np.asarray(counts, dtype=np.float64))
    rest, voice = ~flagged, np.zeros(vectors.shape[1])
    for chosen, part in ((rest, 1.0 - share), (flagged, share)):
        if chosen.any():
            total = weighted_sum(vectors[chosen], weights[chosen])
            voice += part * total / max(float(np.linalg.norm(total)), 1e-12)
    return normalise(voice)


def rotate(vector: NDArray[np.floating], key: str) -> Array:
    """An orthonormal transform of a vector that is different for each key, float64 (d,).

    ``D2 H D1 v``: two diagonals of signs drawn from SHA-256 of the key around the normalised
    Walsh-Hadamard transform (N. Ailon, B. Chazelle, 2006). It keeps lengths and angles exactly,
    needs no stored matrix, and is the same on every machine. Vectors that were rotated by
    different keys are nearly orthogonal, about 1/sqrt(d), however alike they were before.

    Raises:
        ValueError: d is not a power of two.
    """
    values = np.array(vector, dtype=np.float64)
    size = len(values)
    if size & (size - 1) or size == 0:
        raise ValueError(f"a vector of {size} cannot be rotated: not a power of two")
    values *= _signs(key + "/1", size)
    half = 1
    while half < size:
        pairs = values.reshape(-1, 2, half)
        values = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1).ravel()
        half *= 2
    rotated: Array = values * _signs(key + "/2", size) / np.sqrt(size)
    return rotated


def level_code(levels: Sequence[float], size: int, *, octaves: float = 40.0) -> Array:
    """Levels as smooth positions on a ruler of doublings, float64 (size,), of length 1.

    Each of the n levels x >= 0 gets size // n marks along 0..`octaves`; mark c holds
    ``exp(-(log2(1 + x) - c)^2 / 2)``. Two equal levels overlap fully, a doubling overlaps by about
    0.78, four doublings hardly at all. Encoders scale their input and forget its size; this is
    where a day keeps it.
    """
    marks = size // len(levels)
    ruler = np.linspace(0.0, octaves, marks)
    code = np.zeros(size)
    for place, level in enumerate(levels):
        bump = np.exp(-0.5 * (np.log2(1.0 + max(level, 0.0)) - ruler) ** 2)
        code[place * marks : (place + 1) * marks] = bump / max(float(np.linalg.norm(bump)), 1e-12)
    code /= np.sqrt(len(levels))
    return code


def hour_code(values: NDArray[np.floating], size: int) -> Array:
    """How each series of a day (k, minutes) is spread over its 24 hours, float64 (size,).

    Each series gives the logarithms of its rates in 24 parts of the day less their mean, blurred by
    about an hour round the clock, so that neighbouring hours are near. It is scaled to one length,
    unless it is so even that only noise would be heard. The code is no longer than 1.

    Raises:
        ValueError: 24 numbers per series do not fit into `size`, or there are fewer than 24 minutes.
    """
    series, minutes = values.shape
    if 24 * series > size or minutes < 24:
        raise ValueError(
            f"the hours of {series} series of {minutes} minutes do not fit into {size} numbers"
        )
    edges = np.arange(25) * minutes // 24
    hourly = np.add.reduceat(np.maximum(values, 0), edges[:-1], axis=1) / np.diff(edges) * 60
    rates = np.log1p(hourly)
    blurred = sum(
        weight * np.roll(rates, step, axis=1)
        for step, weight in ((-2, 0.05), (-1, 0.25), (0, 0.4), (1, 0.25), (2, 0.05))
    )
    shape = blurred - blurred.mean(axis=1, keepdims=True)
    length = np.linalg.norm(shape, axis=1, keepdims=True)
    shape = shape / np.maximum(length, 1.0) / np.sqrt(series)
    return np.asarray(np.pad(shape.ravel(), (0, size - shape.size)), dtype=np.float64)


def _signs(key: str, size: int) -> Array:
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(key.encode()).digest(-(-size // 8)), "u1"))
    return 1.0 - 2.0 * bits[:size].astype(np.float64)
