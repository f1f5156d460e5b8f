"""Fracast-0, another encoder of series, to be measured beside ours where it is installed.

The package `fracast` brings its weights and needs PyTorch; nothing else here does.
"""

from functools import cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from models.evaluate_timeseries import Encoder, Series, in_parts

Pooled = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def fracast_encoders() -> dict[str, Encoder]:
    """Its states pooled by mean, deviation and last one, and by mean alone; empty without the package."""
    if find_spec("fracast") is None:
        return {}
    import torch
    from fracast.inference import FracastModel

    model = FracastModel.from_pretrained(weights="fp32")

    # A series takes it 0.2 s, and both ways of pooling are asked for the same ones.
    @cache
    def pooled(content: bytes, length: int) -> Pooled:
        """Mean, deviation and last one of the states of float32 series, from 0 to 1 as it wants them."""
        series = np.frombuffer(content, np.float32).reshape(-1, length)
        width = model.context_length
        rows = np.full((len(series), width), np.nan, np.float32)
        rows[:, -length:] = series[:, -width:]
        low = np.nanmin(rows, 1, keepdims=True)
        span = np.maximum(np.nanmax(rows, 1, keepdims=True) - low, 1e-6)
        values = torch.from_numpy(np.nan_to_num((rows - low) / span))[:, None]
        known = torch.from_numpy(np.isfinite(rows))[:, None]
        with torch.no_grad():
            states = model.core(values, known, known.float())
            weight = known[:, 0, :, None].float()
            mean = (states * weight).sum(1) / weight.sum(1)
            spread = ((states - mean[:, None]).pow(2) * weight).sum(1) / weight.sum(1)
        return mean.numpy(), spread.sqrt().numpy(), states[:, -1].numpy()

    def wide(series: Series) -> NDArray[np.float32]:
        return np.concatenate(pooled(series.tobytes(), series.shape[1]), 1)

    def mean(series: Series) -> NDArray[np.float32]:
        middle = pooled(series.tobytes(), series.shape[1])[0]
        return np.asarray(middle / np.linalg.norm(middle, axis=1, keepdims=True), np.float32)

    return {"fracast_0": in_parts(wide), "fracast_0_mean": in_parts(mean)}
