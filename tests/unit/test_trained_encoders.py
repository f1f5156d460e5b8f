"""What the two shipped encoders promise about their inputs, shown on the artefacts themselves."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import models
from models.evaluate_timeseries import z_normalised

ARTEFACTS = Path(models.__file__).parent / "artefacts"
Floats = NDArray[np.float32]


class Graph:
    """One artefact as a function."""

    def __init__(self, name: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(ARTEFACTS / name), options, providers=["CPUExecutionProvider"]
        )
        self.name = self.session.get_inputs()[0].name

    def __call__(self, rows: Floats) -> Floats:
        return np.asarray(self.session.run(None, {self.name: rows})[0], dtype=np.float32)


@pytest.fixture(scope="module")
def attack() -> Graph:
    return Graph("attack.onnx")


@pytest.fixture(scope="module")
def timeseries() -> Graph:
    return Graph("timeseries.onnx")


@pytest.fixture
def flows() -> Floats:
    rng = np.random.default_rng(3)
    rows = np.exp(rng.normal(3, 3, (40, 83))).astype(np.float32)
    rows[:, 2] = 6
    rows[:, 67:] = np.nan
    return rows


@pytest.fixture
def quiet_day() -> Floats:
    rng = np.random.default_rng(4)
    return rng.poisson(3.0, (1, 1440)).astype(np.float32)


def test_attack_vectors_are_256_numbers_of_unit_length(attack: Graph, flows: Floats) -> None:
    vectors = attack(flows)
    assert vectors.shape == (40, 256)
    assert np.allclose((vectors**2).sum(1), 1, atol=1e-5)


def test_a_sentinel_and_an_infinity_are_read_as_missing(attack: Graph, flows: Floats) -> None:
    missing, sentinel, infinite = flows.copy(), flows.copy(), flows.copy()
    missing[:, 30], sentinel[:, 30], infinite[:, 30] = np.nan, -9999.0, np.inf
    assert np.allclose(attack(missing), attack(sentinel), atol=1e-6)
    assert np.allclose(attack(missing), attack(infinite), atol=1e-6)


def test_missing_is_not_the_same_as_zero(attack: Graph, flows: Floats) -> None:
    missing, zero = flows.copy(), flows.copy()
    missing[:, 19], zero[:, 19] = np.nan, 0.0
    assert np.abs(attack(missing) - attack(zero)).max() > 1e-3


def test_a_flow_without_any_feature_has_a_finite_vector(attack: Graph) -> None:
    assert np.isfinite(attack(np.full((1, 83), np.nan, np.float32))).all()


def test_detector_scores_do_not_throw_a_flow_far(attack: Graph, flows: Floats) -> None:
    scored = flows.copy()
    scored[:, 67:80] = np.random.default_rng(5).random((40, 13), dtype=np.float32)
    assert (attack(flows) * attack(scored)).sum(1).mean() > 0.8


def test_what_is_far_in_the_features_is_far_in_the_vector(attack: Graph, flows: Floats) -> None:
    nearby, elsewhere = flows.copy(), flows.copy()
    nearby[:, 5:67] *= 1.1
    elsewhere[:, 5:67] = np.random.default_rng(8).permutation(flows[:, 5:67].T).T
    own = attack(flows)
    assert (own * attack(nearby)).sum(1).min() > (own * attack(elsewhere)).sum(1).max()


def test_ports_alone_do_not_carry_a_vector(attack: Graph, flows: Floats) -> None:
    other, without = flows.copy(), flows.copy()
    other[:, :2] = np.random.default_rng(9).integers(1, 65536, (40, 2))
    without[:, :2] = np.nan
    assert (attack(flows) * attack(other)).sum(1).mean() > 0.9
    assert (attack(flows) * attack(without)).sum(1).mean() > 0.9


def test_an_absurd_value_cannot_outweigh_all_others(attack: Graph, flows: Floats) -> None:
    absurd = flows.copy()
    absurd[:, 30] = 3e30
    assert (attack(flows) * attack(absurd)).sum(1).min() > 0.8


def test_a_fifth_of_the_features_may_be_missing(attack: Graph, flows: Floats) -> None:
    holes = flows.copy()
    holes[np.random.default_rng(10).random(flows.shape) < 0.2] = np.nan
    assert (attack(flows) * attack(holes)).sum(1).mean() > 0.8


def test_a_vector_does_not_depend_on_its_batch(attack: Graph, flows: Floats) -> None:
    assert np.allclose(attack(flows)[7], attack(flows[7:8])[0], atol=1e-5)


@pytest.mark.parametrize("length", [2, 24, 97, 1440, 2048])
def test_series_of_any_length_give_512_numbers(timeseries: Graph, length: int) -> None:
    rows = np.random.default_rng(length).normal(0, 1, (2, length)).astype(np.float32)
    vectors = timeseries(rows)
    assert vectors.shape == (2, 512)
    assert np.allclose((vectors**2).sum(1), 1, atol=1e-4)


def test_absent_steps_on_the_left_hardly_move_a_day(timeseries: Graph, quiet_day: Floats) -> None:
    padded = np.concatenate((np.full((1, 160), np.nan, np.float32), quiet_day), 1)
    assert (timeseries(quiet_day) * timeseries(padded)).sum() > 0.99


@pytest.mark.parametrize("value", [0.0, 3.0, 1e9, np.nan])
def test_a_series_of_one_value_has_a_finite_vector(timeseries: Graph, value: float) -> None:
    assert np.isfinite(timeseries(np.full((1, 1440), value, np.float32))).all()


def test_a_burst_of_one_minute_moves_a_day_more_than_another_draw(timeseries: Graph) -> None:
    rng = np.random.default_rng(6)
    first, again = (rng.poisson(3.0, (1, 1440)).astype(np.float32) for _ in range(2))
    burst = again.copy()
    burst[0, 700] += 60
    usual = float((timeseries(first) * timeseries(again)).sum())
    moved = float((timeseries(first) * timeseries(burst)).sum())
    assert moved < usual - 0.05


def test_bursts_at_two_hours_are_nearer_than_a_burst_and_none(timeseries: Graph) -> None:
    rng = np.random.default_rng(7)
    days = rng.poisson(3.0, (3, 1440)).astype(np.float32)
    days[0, 300] += 60
    days[1, 1000] += 60
    vectors = timeseries(days)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_a_doubled_volume_moves_a_day_that_normalisation_would_not(
    timeseries: Graph, quiet_day: Floats
) -> None:
    assert np.allclose(z_normalised(quiet_day), z_normalised(quiet_day * 2), atol=1e-4)
    assert (timeseries(quiet_day) * timeseries(quiet_day * 2)).sum() < 0.995
