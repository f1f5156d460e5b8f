"""Measures a time-series checkpoint against the baselines of its card.

python -m models.training.measure_timeseries checkpoint.pt --flows F --ucr DATA

DATA is the folder `aeon/datasets/data` of the package aeon. `dayfold models evaluate timeseries` prints the same
figures of what is shipped; this is for checkpoints that are not. Fracast-0 is measured where it is installed.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from models.evaluate_forecast import HORIZON, Forecast, Values, forecasting, series_sets
from models.evaluate_timeseries import (
    PLANTED_SEEDS,
    PROBLEMS,
    Encoder,
    Series,
    in_parts,
    planted,
    read_problem,
    retrieval,
    z_normalised,
)
from models.fracast_encoder import fracast_encoders
from models.training.export import load
from models.training.timeseries_net import PATCH, SeriesEncoder


def encoder_of(net: SeriesEncoder) -> Encoder:
    """The network as a function of numpy arrays."""

    def encode(series: Series) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(series)).numpy()

    return in_parts(encode)


def forecast_of(net: SeriesEncoder) -> Forecast:
    """Its forecasts of 64 steps."""

    def forecast(past: Values) -> np.ndarray:
        with torch.no_grad():
            return net.forecast(torch.from_numpy(past.astype(np.float32)), HORIZON // PATCH).numpy()

    return forecast


def rounded(figures: object) -> object:
    """Four digits of each number, however deep."""
    if isinstance(figures, float):
        return round(figures, 4)
    if isinstance(figures, dict):
        return {name: rounded(value) for name, value in figures.items()}
    return [rounded(value) for value in figures] if isinstance(figures, list | tuple) else figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--flows", type=Path, required=True)
    parser.add_argument("--ucr", type=Path, required=True)
    parser.add_argument("--random", type=int, default=3, help="random initialisations to average")
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = load(options.checkpoint)
    encoders: dict[str, list[Encoder]] = {"ours": [encoder_of(net)], "z_normalised": [z_normalised]}
    for seed in range(options.random):
        torch.manual_seed(seed)
        fresh = encoder_of(SeriesEncoder().eval())
        encoders.setdefault("random_weights", []).append(fresh)
    encoders |= {name: [encode] for name, encode in fracast_encoders().items()}
    problems = [read_problem(options.ucr, name) for name in PROBLEMS]
    days = [planted(options.flows, seed=seed) for seed in PLANTED_SEEDS]
    found = asdict(retrieval(encoders, problems, days))
    sets = series_sets(options.flows, options.ucr)
    forecasts = forecasting(forecast_of(net), sets)
    found["forecasts"] = {name: one and asdict(one) for name, one in forecasts.items()}
    print(json.dumps(rounded(found), indent=1))


if __name__ == "__main__":
    main()
