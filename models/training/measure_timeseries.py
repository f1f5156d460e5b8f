"""Measures a time-series checkpoint against the baselines of its card.

python -m models.training.measure_timeseries checkpoint.pt --flows F --ucr DATA [--fracast]

DATA is the folder `aeon/datasets/data` of the package aeon. Intervals are of 95 %: paired bootstrap
over the test series of each problem, 2,000 draws.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from models.evaluate_timeseries import (
    PROBLEMS,
    Encoder,
    Series,
    hits,
    left_out,
    planted,
    read_problem,
    z_normalised,
)
from models.training.export import load
from models.training.series import Maker, flow_bank
from models.training.timeseries_net import PATCH, QUANTILES, SeriesEncoder

HELD_OUT = ("2017-07-06", "2017-07-07")
HORIZON = 64


def encoder_of(net: SeriesEncoder) -> Encoder:
    """The network as a function of numpy arrays."""

    def encode(series: Series) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([net(part) for part in torch.from_numpy(series).split(64)]).numpy()

    return encode


def fracast_encoders() -> dict[str, Encoder]:
    """Fracast-0 from its wheel, its states pooled by mean, and by mean, deviation and last."""
    from fracast.inference import FracastModel

    model = FracastModel.from_pretrained(weights="fp32")

    def states(series: Series) -> tuple[torch.Tensor, torch.Tensor]:
        width = model.context_length
        rows = np.full((len(series), width), np.nan, np.float32)
        rows[:, -series.shape[1] :] = series[:, -width:]
        low = np.nanmin(rows, 1, keepdims=True)
        span = np.maximum(np.nanmax(rows, 1, keepdims=True) - low, 1e-6)
        values = torch.from_numpy(np.nan_to_num((rows - low) / span))[:, None]
        mask = torch.from_numpy(np.isfinite(rows))[:, None]
        parts = []
        with torch.no_grad():
            for v, m in zip(values.split(32), mask.split(32), strict=True):
                parts.append(model.core(v, m, m.float()))
        return torch.cat(parts), mask[:, 0, :, None].float()

    def mean(series: Series) -> np.ndarray:
        x, m = states(series)
        pooled = (x * m).sum(1) / m.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1).numpy()

    def wide(series: Series) -> np.ndarray:
        x, m = states(series)
        average = (x * m).sum(1) / m.sum(1)
        spread = (((x - average[:, None]) * m).pow(2).sum(1) / m.sum(1)).sqrt()
        return torch.cat((average, spread, x[:, -1]), 1).numpy()

    return {"Fracast-0, mean": mean, "Fracast-0, mean, deviation, last": wide}


def seasonal(past: np.ndarray, period: int) -> np.ndarray:
    """The last period, repeated over the horizon."""
    return past[:, -period:][:, np.arange(HORIZON) % period]


def forecast(net: SeriesEncoder, past: np.ndarray) -> np.ndarray:
    """Quantiles (n, 64, 9) of the next 64 steps."""
    with torch.no_grad():
        values, present = net.patched(torch.from_numpy(past.astype(np.float32)))
        location, scale = net.moments(values, present)
        ahead = torch.zeros(len(past), HORIZON // PATCH, PATCH)
        found = net.states(torch.cat((values, ahead), 1), torch.cat((present, ahead), 1))
        predicted = net.carry_on(found, HORIZON // PATCH).flatten(1, 2).clamp(-12, 12)
        return (torch.sinh(predicted) * scale + location).sort(-1).values.numpy()


def errors(past: np.ndarray, future: np.ndarray, quantiles: np.ndarray, period: int) -> np.ndarray:
    """Per series (n, 4): MASE; quantile loss and size of the future, by own size; the loss as it is."""
    step = np.abs(past[:, period:] - past[:, :-period]).mean(1)
    size = np.abs(past).mean(1) + 1e-9
    mase = np.abs(future - quantiles[..., 4]).mean(1) / np.maximum(step, 1e-2 * size)
    levels = np.array(QUANTILES)
    gap = future[..., None] - quantiles
    loss = 2 * np.maximum(levels * gap, (levels - 1) * gap).mean(-1).mean(1)
    # By its own size, so that series of bytes do not drown series of counts.
    return np.stack((mase, loss / size, np.abs(future).mean(1) / size, loss), 1)


def seasonal_synthetic(seed: int, period: int, count: int = 150) -> np.ndarray:
    """Series of a known period: a wave of harmonics, a trend and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(512 + HORIZON)
    rows = []
    for _ in range(count):
        orders = np.arange(1, 6)
        angle = 2 * np.pi * np.outer(orders, time) / period + rng.uniform(0, 6.3, 5)[:, None]
        wave = (rng.normal(0, 1, 5) / orders) @ np.cos(angle)
        trend = rng.normal(0, 1) * time / len(time)
        noise = rng.choice([0.1, 0.3, 0.6]) * rng.normal(0, 1, len(time))
        rows.append(10 + wave + trend + noise)
    return np.array(rows)


def forecasting(net: SeriesEncoder, flows: Path, ucr: Path) -> dict[str, dict[str, float]]:
    """MASE and weighted quantile loss of ours, seasonal-naive and naive on unseen series."""
    mixed, _ = Maker(991, [np.ones(2880)]).batch(300, 512 + HORIZON, draws=1)
    real = [
        day[end - 512 : end + HORIZON]
        for day in flow_bank(flows, HELD_OUT)
        for end in (900, 960, 1020, 1080)
        if day[end - 240 : end].sum() > 0 and day[end : end + HORIZON].sum() > 0
    ]
    text = (ucr / "solar" / "solar.csv").read_text(encoding="utf-8").splitlines()[1:]
    solar = np.array([float(line.split(",")[1]) for line in text])
    cuts = range(192, len(solar) - HORIZON, 8)
    text = (ucr / "Airline" / "Airline.csv").read_text(encoding="utf-8").splitlines()[1:]
    airline = np.array([float(line.split(",")[-1]) for line in text])
    sets = {
        "seasonal, period 24": (seasonal_synthetic(5, 24), 24),
        "seasonal, period 60": (seasonal_synthetic(6, 60), 60),
        "synthetic of all families": (mixed, 60),
        "real flows per minute, held-out days": (np.array(real), 60),
        "solar power, half-hours": (np.array([solar[c - 192 : c + HORIZON] for c in cuts]), 48),
        "air passengers, months": (
            np.array([airline[c - 72 : c + HORIZON] for c in range(72, len(airline) - HORIZON)]),
            12,
        ),
    }
    found = {}
    for name, (rows, period) in sets.items():
        past, future = rows[:, :-HORIZON], rows[:, -HORIZON:]
        candidates = {"ours": forecast(net, past)}
        for label, season in (("seasonal-naive", period), ("naive", 1)):
            candidates[label] = np.repeat(seasonal(past, season)[..., None], len(QUANTILES), -1)
        result = {"series": float(len(rows))}
        for label, quantiles in candidates.items():
            each = errors(past, future, quantiles, period)
            result[f"{label}: MASE"] = float(np.minimum(each[:, 0], 100).mean())
            result[f"{label}: WQL"] = float(each[:, 1].sum() / each[:, 2].sum())
            result[f"{label}: WQL, unscaled"] = float(
                each[:, 3].sum() / np.abs(future).mean(1).sum()
            )
        found[name] = {key: round(value, 4) for key, value in result.items()}
    return found


def interval(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float]:
    """95 % interval of the difference of the means over the problems."""
    rng = np.random.default_rng(0)
    total = np.zeros(2000)
    for one, other in zip(ours, theirs, strict=True):
        drawn = rng.integers(0, len(one), (len(total), len(one)))
        total += (one - other)[drawn].mean(1) / len(ours)
    low, high = np.quantile(total, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--flows", type=Path, required=True)
    parser.add_argument("--ucr", type=Path, required=True)
    parser.add_argument("--fracast", action="store_true")
    parser.add_argument("--random", type=int, default=3, help="random initialisations to average")
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = load(options.checkpoint)
    encoders: dict[str, list[Encoder]] = {"ours": [encoder_of(net)], "z-normalised": [z_normalised]}
    fresh = []
    for seed in range(options.random):
        torch.manual_seed(seed)
        fresh.append(encoder_of(SeriesEncoder().eval()))
    if fresh:
        encoders["random initialisation"] = fresh
    if options.fracast:
        encoders |= {name: [encode] for name, encode in fracast_encoders().items()}
    days, behaviours = planted(options.flows)
    problems = [read_problem(options.ucr, name) for name in PROBLEMS]
    found: dict[str, list[np.ndarray]] = {}
    for name, several in encoders.items():
        each = [[hits(encode, problem) for encode in several] for problem in problems]
        found[name] = [np.mean(row, 0) for row in each]
        row = {p.name: right.mean() for p, right in zip(problems, found[name], strict=True)}
        row["mean"] = np.mean(list(row.values()))
        row["planted"] = np.mean([left_out(encode(days), behaviours) for encode in several])
        if len(several) > 1:
            means = [
                np.mean([right.mean() for right in by_seed]) for by_seed in zip(*each, strict=True)
            ]
            row["lowest seed"], row["highest seed"] = min(means), max(means)
        figures = {key: round(float(value), 4) for key, value in row.items()}
        print(name, json.dumps(figures), flush=True)
    for name in encoders:
        if name != "ours":
            low, high = interval(found["ours"], found[name])
            print(f"ours less {name}: {low:+.4f} to {high:+.4f}")
    print(json.dumps(forecasting(net, options.flows, options.ucr), indent=1))


if __name__ == "__main__":
    main()
