"""Measures the time-series encoder: nearest neighbours, day rows and forecasts, beside other encoders."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from consumer.evaluation.planted_days import planted_days
from consumer.evaluation.series_networks import forecaster, random_encoder
from consumer.evaluation.sources import Sources
from embed.timeseries import TimeSeriesEmbedder
from models.evaluate_forecast import Forecasts, forecasting, series_sets
from models.evaluate_timeseries import (
    PLANTED_SEEDS,
    PROBLEMS,
    Encoder,
    Retrieval,
    in_parts,
    planted,
    read_problem,
    retrieval,
    z_normalised,
)
from models.fracast_encoder import fracast_encoders
from models.store import forecast_head, locate

THREADS = 2
RANDOM_SEEDS = (0, 1, 2)
# Every encoder that can be measured; None in the answer where one is not there.
ENCODERS = ("ours", "random_weights", "fracast_0", "fracast_0_mean", "z_normalised")
NOT_SHIPPED = "the time-series encoder in use is not the shipped one"
NO_FRACAST = "the package fracast is not installed: pip install '.[evaluate]'"
ONE_DAY = "needs benign flows of two days"
NO_PROBLEMS = "no folder of UCR problems: give --ucr"


def measure_timeseries(sources: Sources) -> dict[str, Any]:
    """The time-series encoder by 1-NN retrieval and by its forecasts, beside others and plain baselines.

    Returns:
        `planted`: share of days whose nearest other day of their set has the same planted behaviour, by encoder.
        `day_rows`: see `consumer.evaluation.planted_days`.
        `problems`: accuracy on the labelled problems of the UCR archive, by problem and encoder;
        `problems_mean`: over them; `problems_mean_by_seed`: of each network of random weights;
        `problems_lead`: 95 % interval of the mean of ours less theirs. None without the folder.
        `forecasts`: by set of series, see `models.evaluate_forecast`; None for a set without its data.
        `not_measured`: what is None because something is missing, and what that is.

    Raises:
        ModelError: the encoder is not on this machine, or altered.
    """
    started = time.monotonic()
    files = locate("timeseries", sources.cache_dir)
    embedder = TimeSeriesEmbedder(files, threads=THREADS)
    encoders: dict[str, list[Encoder]] = {
        "ours": [in_parts(embedder.embed_series)],
        "z_normalised": [z_normalised],
        **{name: [encode] for name, encode in fracast_encoders().items()},
    }
    missing = {} if "fracast_0" in encoders else {"fracast_0": NO_FRACAST}
    problems = []
    if sources.ucr is None:
        missing["problems"] = NO_PROBLEMS
    else:
        problems = [read_problem(sources.ucr, name) for name in PROBLEMS]
    forecasts = None
    head = forecast_head(files.entry)
    if head is None:
        missing["random_weights"] = missing["forecasts"] = NOT_SHIPPED
    else:
        encoders["random_weights"] = [
            random_encoder(files.graph, seed, threads=THREADS) for seed in RANDOM_SEEDS
        ]
        forecast = forecaster(files.graph, files.entry.sha256, head, threads=THREADS)
        measured = forecasting(forecast, series_sets(sources.flows, sources.ucr))
        forecasts = {name: one and _forecasts(one) for name, one in measured.items()}
    planted_sets = [planted(sources.flows, seed=seed) for seed in PLANTED_SEEDS]
    day_rows = planted_days(sources.flows, embedder)
    if day_rows is None:
        missing["day_rows"] = ONE_DAY
    return {
        "model": "timeseries",
        "source": sources.named,
        **_retrieval(
            retrieval(encoders, problems, planted_sets), sum(len(days) for days, _ in planted_sets)
        ),
        "day_rows": day_rows and {name: _rounded(one) for name, one in day_rows.items()},
        "forecasts": forecasts,
        "not_measured": missing,
        "seconds": round(time.monotonic() - started, 1),
    }


def _retrieval(found: Retrieval, days: int) -> dict[str, Any]:
    told: dict[str, Any] = {"planted": {"days": days, **_by_encoder(found.planted)}}
    if not found.problems:
        names = ("problems", "problems_mean", "problems_mean_by_seed", "problems_lead")
        return {**told, **dict.fromkeys(names)}
    seeds = found.each.get("random_weights")
    return {
        **told,
        "problems": {name: _by_encoder(one) for name, one in found.problems.items()},
        "problems_mean": _by_encoder(found.mean),
        "problems_mean_by_seed": seeds and [round(one, 3) for one in seeds],
        "problems_lead": {
            name: [round(end, 3) for end in found.lead[name]] if name in found.lead else None
            for name in ENCODERS
            if name != "ours"
        },
    }


def _by_encoder(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(figures[name], 3) if name in figures else None for name in ENCODERS}


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}


def _forecasts(one: Forecasts) -> dict[str, Any]:
    losses = {name: _rounded(figures) for name, figures in one.losses.items()}
    return {"series": one.series, "season": one.season, **losses}
