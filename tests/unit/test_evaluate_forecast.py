"""What forecasts are measured on, and by what."""

from pathlib import Path

import numpy as np
import pytest

from consumer.evaluation.corpus import FLOWS
from models.evaluate_forecast import (
    HORIZON,
    QUANTILES,
    SeriesSet,
    Values,
    forecasting,
    held_out_flows,
    losses,
    repeated,
    series_sets,
    strict_season,
    windows_of,
)


@pytest.fixture
def season() -> SeriesSet:
    """Two series that repeat themselves every 4 steps, one ten times as large as the other."""
    row = np.tile([1.0, 3.0, 2.0, 4.0], 40)
    return SeriesSet(np.stack((row, 10 * row)), 4)


def level(asked: SeriesSet, off: float) -> Values:
    """The future itself, all quantiles `off` too high by the series' size."""
    size = np.abs(asked.past).mean(1)[:, None, None]
    quantiles: Values = np.repeat(asked.future[..., None], len(QUANTILES), -1) + off * size
    return quantiles


def test_the_last_season_again_misses_nothing_of_what_only_repeats_itself(
    season: SeriesSet,
) -> None:
    found = losses(season, repeated(season.past, 4))
    assert found == {"mase": 0.0, "wql": 0.0, "wql_unscaled": 0.0}
    assert losses(season, repeated(season.past, 1))["mase"] > 0


def test_mase_is_the_error_by_the_change_over_one_season() -> None:
    rising = SeriesSet(np.arange(100.0 + HORIZON)[None], 5)
    # The past changes by 5 in a season; the last value is wrong by 1, 2, ... 64.
    assert losses(rising, repeated(rising.past, 1))["mase"] == pytest.approx(32.5 / 5)


def test_one_series_that_stood_still_does_not_decide_a_mean() -> None:
    rows = np.ones((1, 100 + HORIZON))
    rows[0, -HORIZON:] = 1e6
    asked = SeriesSet(rows, 5)
    assert losses(asked, repeated(asked.past, 1))["mase"] == 100


@pytest.mark.parametrize("off", [0.2, -0.2])
def test_wql_is_twice_the_pinball_loss_by_the_size_of_the_future(
    season: SeriesSet, off: float
) -> None:
    # Nine levels around one half: the pinball losses of an even error sum up to half of it.
    found = losses(season, level(season, off))
    assert found["wql"] == pytest.approx(0.2)
    assert found["wql_unscaled"] == pytest.approx(0.2)


def test_a_large_series_drowns_a_small_one_only_unscaled(season: SeriesSet) -> None:
    quantiles = level(season, 0.0)
    quantiles[0] += 2.5  # as much as the small series has
    found = losses(season, quantiles)
    assert found["wql"] == pytest.approx(0.5)
    assert found["wql_unscaled"] == pytest.approx(1 / 11)


def test_every_set_is_measured_beside_two_plain_forecasts(season: SeriesSet) -> None:
    found = forecasting(lambda past: repeated(past, 4), {"season": season, "gone": None})
    assert found["gone"] is None
    assert found["season"] is not None
    assert (found["season"].series, found["season"].season) == (2, 4)
    assert found["season"].losses["ours"] == found["season"].losses["seasonal_naive"]
    assert found["season"].losses["naive"]["wql"] > 0


def test_sets_without_their_files_are_none_and_the_others_stay(tmp_path: Path) -> None:
    found = series_sets(FLOWS, tmp_path)
    missing = {name for name, asked in found.items() if asked is None}
    assert missing == {"solar_power", "air_passengers"}
    assert {name: len(asked.rows) for name, asked in found.items() if asked is not None} == {
        "every_family": 300,
        "strict_period_24": 150,
        "strict_period_60": 150,
        "real_flows": 554,
    }


def test_real_flows_are_of_the_days_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.evaluate_forecast.days_to_ask", lambda _flows: ("1999-12-31",))
    assert held_out_flows(FLOWS) is None


def test_windows_end_where_the_file_does(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("when,much\n" + "".join(f"t{n},{n}\n" for n in range(100)), encoding="utf-8")
    found = windows_of(path, 20, 8, 5)
    assert found is not None
    assert found.rows[:, 0].tolist() == [0, 8]
    assert found.rows[:, -1].tolist() == [83, 91]


def test_a_seed_gives_the_same_seasons_again() -> None:
    first, again = strict_season(5, 24, 3), strict_season(5, 24, 3)
    assert np.array_equal(first.rows, again.rows)
