"""Measures forecasts of 64 steps against seasonal-naive, with numpy and pyarrow alone.

The forecast is any function from the past (n, L) to quantiles (n, 64, 9). The series:

- two sets of a strict period with trend and noise, and one of the kinds that training draws, all
  from seeds that no training used;
- minutes of the real flows of the days that training left out;
- solar power and air passengers out of the package `aeon`, where its data is there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.evaluate_timeseries import days_to_ask
from models.training.series import Maker, flow_bank

HORIZON = 64
CONTEXT = 512
QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MEDIAN = QUANTILES.index(0.5)
HIGHEST_MASE = 100.0  # of one series, so that a series that stood still does not decide a mean

Values = NDArray[np.float64]
Forecast = Callable[[Values], NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class SeriesSet:
    """Series (n, L + 64) whose last 64 steps are to be foretold.

    Attributes:
        rows: the series.
        period: the season that seasonal-naive is told, in steps.
    """

    rows: Values
    period: int

    @property
    def past(self) -> Values:
        """What a forecast sees (n, L)."""
        return self.rows[:, :-HORIZON]

    @property
    def future(self) -> Values:
        """What it is held against (n, 64)."""
        return self.rows[:, -HORIZON:]


def strict_season(seed: int, period: int, count: int = 150) -> SeriesSet:
    """Series of a known period: a wave of harmonics, a trend and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(CONTEXT + HORIZON)
    rows = []
    for _ in range(count):
        orders = np.arange(1, 6)
        angle = 2 * np.pi * np.outer(orders, time) / period + rng.uniform(0, 6.3, 5)[:, None]
        wave = (rng.normal(0, 1, 5) / orders) @ np.cos(angle)
        trend = rng.normal(0, 1) * time / len(time)
        noise = rng.choice([0.1, 0.3, 0.6]) * rng.normal(0, 1, len(time))
        rows.append(10 + wave + trend + noise)
    return SeriesSet(np.array(rows), period)


def every_family(count: int = 300) -> SeriesSet:
    """Series of all kinds that training draws, from another seed; an hour is their season."""
    rows, _ = Maker(991, [np.ones(2880)]).batch(count, CONTEXT + HORIZON, draws=1)
    return SeriesSet(rows, 60)


def held_out_flows(flows: Path) -> SeriesSet | None:
    """Windows of the real minutes of the days to ask, with something before and after the cut; None without any."""
    rows = [
        day[end - CONTEXT : end + HORIZON]
        for day in flow_bank(flows, days_to_ask(flows))
        for end in (900, 960, 1020, 1080)
        if day[end - 240 : end].sum() > 0 and day[end : end + HORIZON].sum() > 0
    ]
    return SeriesSet(np.array(rows), 60) if rows else None


def windows_of(path: Path, context: int, every: int, period: int) -> SeriesSet | None:
    """Overlapping windows of the last column of a CSV file; None where the file is not there."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    series = np.array([float(line.split(",")[-1]) for line in lines])
    cuts = range(context, len(series) - HORIZON, every)
    return SeriesSet(np.array([series[cut - context : cut + HORIZON] for cut in cuts]), period)


def series_sets(flows: Path, data: Path | None) -> dict[str, SeriesSet | None]:
    """The six sets; `data` is the folder `aeon/datasets/data`. None for a set without its file."""
    solar = passengers = None
    if data is not None:
        solar = windows_of(data / "solar" / "solar.csv", 192, 8, 48)
        passengers = windows_of(data / "Airline" / "Airline.csv", 72, 1, 12)
    return {
        "every_family": every_family(),
        "strict_period_24": strict_season(5, 24),
        "strict_period_60": strict_season(6, 60),
        "real_flows": held_out_flows(flows),
        "solar_power": solar,
        "air_passengers": passengers,
    }


@dataclass(frozen=True, slots=True)
class Forecasts:
    """How far off forecasts of a set were.

    Attributes:
        series: how many there were.
        season: that seasonal-naive was told, in steps.
        losses: see the function `losses`; `ours`, `seasonal_naive` (the last season again) and `naive`
            (the last value again).
    """

    series: int
    season: int
    losses: dict[str, dict[str, float]]


def repeated(past: Values, period: int) -> Values:
    """The last period, repeated over the horizon, as quantiles (n, 64, 9) that are all one."""
    values = past[:, -period:][:, np.arange(HORIZON) % period]
    return np.repeat(values[..., None], len(QUANTILES), -1)


def losses(asked: SeriesSet, quantiles: NDArray[np.floating]) -> dict[str, float]:
    """What a forecast (n, 64, 9) of a set misses.

    Returns:
        `mase`: mean over the series of the median's absolute error, by the mean absolute change over
        one season of the past (R. Hyndman, A. Koehler, 2006), at most 100 for a series.
        `wql`: twice the pinball loss, mean of the nine quantiles, by the size of the future; each
        series counts by its own past size, so that series of bytes do not drown series of counts.
        `wql_unscaled`: the same without that, as the Chronos papers weigh it.
    """
    past, future, period = asked.past, asked.future, asked.period
    step = np.abs(past[:, period:] - past[:, :-period]).mean(1)
    size = np.abs(past).mean(1) + 1e-9
    mase = np.abs(future - quantiles[..., MEDIAN]).mean(1) / np.maximum(step, 1e-2 * size)
    levels = np.array(QUANTILES)
    gap = future[..., None] - quantiles
    loss = 2 * np.maximum(levels * gap, (levels - 1) * gap).mean(-1).mean(1)
    largeness = np.abs(future).mean(1)
    return {
        "mase": float(np.minimum(mase, HIGHEST_MASE).mean()),
        "wql": float((loss / size).sum() / (largeness / size).sum()),
        "wql_unscaled": float(loss.sum() / largeness.sum()),
    }


def forecasting(
    forecast: Forecast, sets: Mapping[str, SeriesSet | None]
) -> dict[str, Forecasts | None]:
    """Measures forecasts of each set beside the two plain ones; None for a set that is None."""
    return {
        name: None if asked is None else _measured(forecast, asked) for name, asked in sets.items()
    }


def _measured(forecast: Forecast, asked: SeriesSet) -> Forecasts:
    made = {
        "ours": forecast(asked.past),
        "seasonal_naive": repeated(asked.past, asked.period),
        "naive": repeated(asked.past, 1),
    }
    found = {name: losses(asked, quantiles) for name, quantiles in made.items()}
    return Forecasts(len(asked.rows), asked.period, found)
