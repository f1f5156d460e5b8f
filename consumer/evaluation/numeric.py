"""Measures the two encoders of numbers on the shipped flows, beside the plain baseline of each."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from consumer.evaluation.corpus import FLOWS
from embed.attack import AttackEmbedder
from embed.timeseries import TimeSeriesEmbedder
from models import evaluate_attack as attack
from models import evaluate_timeseries as timeseries
from models.store import locate

THREADS = 2


def measure_attack(cache_dir: Path | None = None) -> dict[str, Any]:
    """The attack encoder on flows that its training did not see, and raw features beside it.

    Returns:
        `splits`: by split (`time`, `random`; see `models.evaluate_attack`) and by encoder, the
        figures with ports and without. Of the random split the shipped weights have seen most
        flows in training; only `time` says something about unseen ones.

    Raises:
        ModelError: the encoder is not on this machine, or altered.
    """
    started = time.monotonic()
    flows = attack.read_flows(FLOWS)
    ours = AttackEmbedder(locate("attack", cache_dir), threads=THREADS)
    splits: dict[str, Any] = {}
    for name, held in (("time", flows.held_by_time), ("random", flows.held_at_random)):
        encoders: dict[str, attack.Encoder] = {
            "ours": ours.embed_features,
            "raw": attack.raw_encoder(flows.features[~held]),
        }
        splits[name] = {
            encoder: {
                "with_ports" if ports else "without_ports": _rounded(
                    attack.retrieval(encode, flows, held, ports=ports)
                )
                for ports in (True, False)
            }
            for encoder, encode in encoders.items()
        }
    return {
        "model": "attack",
        "flows": len(flows.labels),
        "splits": splits,
        "seconds": round(time.monotonic() - started, 1),
    }


def measure_timeseries(cache_dir: Path | None = None) -> dict[str, Any]:
    """The time-series encoder by 1-NN retrieval, and z-normalised values beside it.

    Returns:
        `planted`: share of days whose nearest other day has the same planted behaviour.
        `problems`: accuracy on the labelled problems that the package `aeon` carries; None when it
        is not installed.

    Raises:
        ModelError: the encoder is not on this machine, or altered.
    """
    started = time.monotonic()
    ours = TimeSeriesEmbedder(locate("timeseries", cache_dir), threads=THREADS)
    encoders: dict[str, timeseries.Encoder] = {
        "ours": ours.embed_series,
        "z_normalised": timeseries.z_normalised,
    }
    days, behaviours = timeseries.planted(FLOWS)
    folder = _ucr_folder()
    problems = None
    if folder is not None:
        read = [timeseries.read_problem(folder, name) for name in timeseries.PROBLEMS]
        problems = {
            problem.name: _rounded(
                {name: timeseries.accuracy(encode, problem) for name, encode in encoders.items()}
            )
            for problem in read
        }
    return {
        "model": "timeseries",
        "planted": {
            "days": len(np.asarray(days)),
            **_rounded(
                {
                    name: timeseries.left_out(encode(days), behaviours)
                    for name, encode in encoders.items()
                }
            ),
        },
        "problems": problems,
        "seconds": round(time.monotonic() - started, 1),
    }


def _ucr_folder() -> Path | None:
    found = find_spec("aeon")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "datasets" / "data"
    return folder if folder.is_dir() else None


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}
