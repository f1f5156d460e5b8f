"""The network of the time series with random weights, and with its forecasting head."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from consumer.evaluation.series_networks import (
    BIASED,
    LEARNED,
    LINEAR,
    NORMS,
    Weights,
    forecaster,
    random_encoder,
    random_weights,
)
from embed.timeseries import TimeSeriesEmbedder
from models.errors import ModelRunError
from models.evaluate_forecast import HORIZON, QUANTILES, Forecast
from models.store import ModelFiles, forecast_head, locate

# Kept as they are: fixed directions, the kernels of the patterns, positions.
FIXED = {"local_half", "patterns.kernels"}


@pytest.fixture(scope="module")
def files() -> ModelFiles:
    return locate("timeseries")


@pytest.fixture(scope="module")
def stored(files: ModelFiles) -> Weights:
    graph = onnx.load(files.graph).graph
    return {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}


@pytest.fixture(scope="module")
def ours(files: ModelFiles) -> Forecast:
    head = forecast_head(files.entry)
    assert head is not None
    return forecaster(files.graph, files.entry.sha256, head, threads=1)


@pytest.fixture(scope="module")
def series() -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(50, 10, (5, 48)).astype(np.float32)


def test_every_weight_that_training_learned_is_replaced(stored: Weights) -> None:
    named = {name for name, value in stored.items() if value.size > 1 and "." in name}
    assert named - FIXED == set(LEARNED) - {"of_whole"}
    assert "of_whole" in stored


def test_random_weights_are_as_pytorch_draws_them(stored: Weights) -> None:
    drawn = random_weights(stored, 0)
    assert set(drawn) == set(LEARNED)
    for name in LINEAR:
        weight = drawn[f"{name}.weight_half"].astype(np.float64)
        bound = 1 / np.sqrt(weight.shape[1])
        assert np.abs(weight).max() == pytest.approx(bound, rel=0.01)
        # The deviation of a uniform number within the bound.
        assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
        assert abs(weight.mean()) < bound / 20
        if name in BIASED:
            assert bound / 2 < np.abs(drawn[f"{name}.bias"]).max() <= bound
    assert all((drawn[f"{name}.weight"] == 1).all() for name in NORMS)
    assert not drawn["of_whole"].any()
    assert all(drawn[name].dtype == stored[name].dtype for name in LEARNED)


def test_a_random_network_is_its_seed_and_not_the_trained_one(
    files: ModelFiles, series: NDArray[np.float32]
) -> None:
    first, again, other = (
        random_encoder(files.graph, seed, threads=1)(series) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    trained = TimeSeriesEmbedder(files, threads=1).embed_series(series)
    for vectors in (first, other):
        assert np.allclose((vectors**2).sum(1), 1, atol=1e-5)
    assert (np.abs(first - other).max(1) > 0.02).all()
    assert (np.abs(first - trained).max(1) > 0.02).all()


def test_a_graph_of_another_network_gets_no_random_weights(files: ModelFiles) -> None:
    head = forecast_head(files.entry)
    assert head is not None
    with pytest.raises(ModelRunError, match=r"forecast\.onnx cannot be opened for evaluation"):
        random_encoder(head, 0, threads=1)


def test_a_wave_goes_on(ours: Forecast) -> None:
    time = np.arange(4 * 96 + HORIZON)
    wave = 30 + 10 * np.sin(2 * np.pi * time / 96)[None]
    found = ours(wave[:, :-HORIZON])
    assert found.shape == (1, HORIZON, len(QUANTILES))
    missed = np.abs(found[..., 4] - wave[:, -HORIZON:]).mean()
    assert missed < 0.1 * wave.std()


def test_quantiles_are_in_order_whatever_the_length(ours: Forecast) -> None:
    rng = np.random.default_rng(4)
    for length in (72, 97, 512):
        found = ours(rng.poisson(3.0, (2, length)).astype(np.float64))
        assert np.isfinite(found).all()
        assert (np.diff(found, axis=-1) >= 0).all()


def test_a_head_of_another_encoder_is_refused(files: ModelFiles) -> None:
    head = forecast_head(files.entry)
    assert head is not None
    with pytest.raises(ModelRunError, match="belongs to the encoder with SHA-256"):
        forecaster(files.graph, "0" * 64, head, threads=1)
