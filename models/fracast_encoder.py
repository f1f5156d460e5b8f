"""Fracast-0, another encoder of series, to be measured beside ours where it is installed.

The package `fracast` brings its weights and needs PyTorch; nothing else here does.
"""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from models.evaluate_timeseries import Encoder, Series

ROWS = 32  # series at a time


def fracast_encoders() -> dict[str, Encoder]:
    """Its states pooled by mean, deviation and last one, and by mean alone; empty without the package."""
    if find_spec("fracast") is None:
        return {}
    import torch
    from fracast.inference import FracastModel

    model = FracastModel.from_pretrained(weights="fp32")

    def states(series: Series) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The states (n, context, d) of series as it wants them, from 0 to 1, and which are known."""
        width = model.context_length
        rows = np.full((len(series), width), np.nan, np.float32)
        rows[:, -series.shape[1] :] = series[:, -width:]
        low = np.nanmin(rows, 1, keepdims=True)
        span = np.maximum(np.nanmax(rows, 1, keepdims=True) - low, 1e-6)
        values = torch.from_numpy(np.nan_to_num((rows - low) / span))[:, None]
        known = torch.from_numpy(np.isfinite(rows))[:, None]
        with torch.no_grad():
            parts = [
                model.core(v, k, k.float())
                for v, k in zip(values.split(ROWS), known.split(ROWS), strict=True)
            ]
        return torch.cat(parts).numpy(), known[:, 0, :, None].float().numpy()

    def mean(series: Series) -> NDArray[np.float32]:
        found, known = states(series)
        pooled = (found * known).sum(1) / known.sum(1)
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), np.float32)

    def wide(series: Series) -> NDArray[np.float32]:
        found, known = states(series)
        average = (found * known).sum(1) / known.sum(1)
        spread = np.sqrt(((found - average[:, None]) ** 2 * known).sum(1) / known.sum(1))
        return np.concatenate((average, spread, found[:, -1]), 1, dtype=np.float32)

    return {"fracast_0": wide, "fracast_0_mean": mean}
