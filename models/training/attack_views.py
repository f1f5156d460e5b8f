"""Random changes of a flow that leave its behaviour the same, on raw features.

Another network is slower, its packets are cut at other sizes, its sensor measures fewer columns. A
forest that has seen flows so changed does not hang everything on one exact value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.manifest import load_features

Floats = NDArray[np.float32]

SPECS = load_features()
BYTE_RATES = {
    "flow_bytes_per_second",
    "forward_average_bulk_rate",
    "backward_average_bulk_rate",
}
FAMILIES = ("backward", "forward", "bulk", "flag", "inter_arrival", "per_second", "header", "std")

TIMES = np.array([spec.unit == "us" for spec in SPECS])
RATES = np.array([spec.unit == "1/s" for spec in SPECS])
SIZES = np.array(
    [(s.unit == "B" and "header" not in s.name) or s.name in BYTE_RATES for s in SPECS]
)
SQUARES = np.array([spec.unit == "B^2" for spec in SPECS])


def changed(features: Floats, rng: np.random.Generator, *, strength: float = 1.0) -> Floats:
    """A changed copy of raw features (n, 83), NaN = missing.

    Args:
        features: the flows.
        rng: of all that is drawn.
        strength: 0 leaves times, rates and sizes alone; 1 stretches times by up to about e.
    """
    n = len(features)
    slower = np.exp(0.5 * strength * rng.standard_normal((n, 1)) * (rng.random((n, 1)) < 0.5))
    larger = np.exp(0.15 * strength * rng.standard_normal((n, 1)) * (rng.random((n, 1)) < 0.4))
    factors = np.ones(features.shape)
    factors[:, TIMES] *= slower
    factors[:, RATES] /= slower
    factors[:, SIZES] *= larger
    factors[:, SQUARES] *= larger**2
    copy = (features * factors).astype(np.float32)
    missing = rng.random(features.shape) < 0.5 * rng.random((n, 1)) ** 3 * (
        rng.random((n, 1)) < 0.5
    )
    for family in FAMILIES:
        own = np.array([family in spec.name and spec.group == "flow" for spec in SPECS])
        missing |= own & (rng.random((n, 1)) < 0.03)
    copy[missing] = np.nan
    return copy
