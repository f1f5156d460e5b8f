"""What an evaluation of the time series says, and what it says where something is missing."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from consumer.commands import figures
from consumer.evaluation import timeseries as room
from consumer.evaluation.sources import Sources
from consumer.evaluation.timeseries import measure_timeseries
from models.evaluate_forecast import strict_season
from models.evaluate_timeseries import Problem, Series, in_parts, retrieval

LABELS = np.array(["low", "high"])


def problem(name: str) -> Problem:
    """Two series are known; the four asked are nearest to their own by their first step."""
    known: Series = np.array([[0, 0], [10, 0]], np.float32)
    asked: Series = np.array([[1, 5], [2, -5], [8, 5], [9, -5]], np.float32)
    return Problem(name, known, LABELS, asked, LABELS[[0, 0, 1, 1]])


def as_it_is(series: Series) -> NDArray[np.float32]:
    return series


def blind(series: Series) -> NDArray[np.float32]:
    return np.zeros_like(series)


def test_encoders_of_one_name_count_by_their_mean() -> None:
    encoders = {"ours": [as_it_is], "random_weights": [as_it_is, blind]}
    days: Series = np.array([[0, 0], [0, 1], [9, 0], [9, 1]], np.float32)
    found = retrieval(encoders, [problem("a"), problem("b")], [(days, LABELS[[0, 0, 1, 1]])])
    assert found.problems["a"] == {"ours": 1.0, "random_weights": 0.75}
    assert found.each == {"ours": [1.0], "random_weights": [1.0, 0.5]}
    assert found.mean == {"ours": 1.0, "random_weights": 0.75}
    assert found.planted["ours"] == 1.0
    low, high = found.lead["random_weights"]
    assert 0 < low < 0.25 < high < 0.5


def test_the_share_of_planted_days_is_over_all_sets() -> None:
    apart: Series = np.array([[0, 0], [0, 1], [9, 0], [9, 1]], np.float32)
    mixed: Series = apart[[0, 2, 1, 3]]
    labels = LABELS[[0, 0, 1, 1]]
    found = retrieval({"ours": [as_it_is]}, [], [(apart, labels), (mixed, labels)])
    assert found.planted == {"ours": 0.5}


def test_an_encoder_gets_few_series_at_a_time_and_each_once() -> None:
    given: list[int] = []

    def counted(series: Series) -> NDArray[np.float32]:
        given.append(len(series))
        return series

    rows = np.arange(40, dtype=np.float32)[:, None]
    assert np.array_equal(in_parts(counted)(rows), rows)
    assert given == [16, 16, 8]


def test_an_encoder_has_no_lead_over_itself() -> None:
    days: Series = np.zeros((2, 2), np.float32)
    found = retrieval({"ours": [as_it_is], "same": [as_it_is]}, [problem("a")], [(days, LABELS)])
    assert found.lead == {"same": (0.0, 0.0)}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of series instead of the two thousand that take minutes."""
    days = np.random.default_rng(1).poisson(3.0, (4, 60)).astype(np.float32)
    monkeypatch.setattr(room, "planted", lambda _flows, seed: (days + seed, LABELS[[0, 0, 1, 1]]))
    monkeypatch.setattr(room, "planted_days", lambda _flows, _embedder: {})
    sets = {"strict_period_24": strict_season(5, 24, 2), "solar_power": None}
    monkeypatch.setattr(room, "series_sets", lambda _flows, _data: sets)


@pytest.mark.usefixtures("small")
def test_what_is_missing_is_null_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "fracast_encoders", dict)
    found = measure_timeseries(Sources())
    assert set(found["not_measured"]) == {"fracast_0", "problems"}
    assert "'.[evaluate]'" in found["not_measured"]["fracast_0"]
    assert found["problems"] is found["problems_mean"] is found["problems_lead"] is None
    assert found["planted"]["fracast_0"] is None
    assert 0 <= found["planted"]["random_weights"] <= 1
    assert found["forecasts"]["solar_power"] is None
    told = found["forecasts"]["strict_period_24"]
    assert (told["series"], told["season"]) == (2, 24)
    assert told["ours"]["mase"] < told["seasonal_naive"]["mase"]


@pytest.mark.usefixtures("small")
def test_a_person_sees_the_figures_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "fracast_encoders", dict)
    found = measure_timeseries(Sources())
    console = Console(width=120, record=True, file=StringIO())
    figures.show(console, {"timeseries": found})
    shown = console.export_text()
    told = found["forecasts"]["strict_period_24"]
    assert f"{found['planted']['random_weights']:.3f}" in shown
    assert f"{told['ours']['mase']:.3f}" in shown
    assert f"fracast_0 not measured: {found['not_measured']['fracast_0']}" in shown
    assert "solar power" not in shown


@pytest.mark.usefixtures("small")
def test_an_encoder_of_the_operator_is_measured_without_what_belongs_to_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "fracast_encoders", lambda: {"fracast_0": blind})
    monkeypatch.setattr(room, "forecast_head", lambda _entry: None)
    monkeypatch.setattr(room, "PROBLEMS", ("a",))
    monkeypatch.setattr(room, "read_problem", lambda _folder, name: problem(name))
    found = measure_timeseries(Sources(ucr=Path("problems")))
    assert set(found["not_measured"]) == {"random_weights", "forecasts"}
    assert found["forecasts"] is found["problems_mean_by_seed"] is None
    assert found["problems"]["a"]["fracast_0"] == 0.5
    assert found["problems"]["a"]["random_weights"] is None
    assert found["problems_lead"]["random_weights"] is None
    assert len(found["problems_lead"]["fracast_0"]) == 2
