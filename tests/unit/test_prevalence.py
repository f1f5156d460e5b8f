"""Folding a day keeps rare attacks among the neighbours, shown with vectors made for it."""

import numpy as np
import pytest

from consumer.evaluation.prevalence import PREVALENCES, measure_prevalence
from embed.pooling import normalise
from models.evaluate_attack import Floats, LabelledFlows
from models.labels import BENIGN

WIDTH = 32
EVENTS = 4000
LABELS = (BENIGN, "flood", "guessing")


def flows_of(benign: int, attacks: int) -> LabelledFlows:
    """Flows whose column 10 says what they are, and column 2 is their protocol."""
    labels = np.repeat(LABELS, (benign, attacks, attacks))
    features = np.full((len(labels), 83), np.nan, np.float32)
    features[:, 10] = np.searchsorted(LABELS, labels) * 1000
    features[:, 11] = np.random.default_rng(1).integers(500, 1500, len(labels))
    nothing = np.zeros(len(labels), np.bool_)
    return LabelledFlows(features, labels, np.zeros(len(labels), np.int64), nothing, nothing)


def telling(features: Floats) -> Floats:
    """An encoder under which every label has a direction of its own."""
    rows = np.zeros((len(features), WIDTH))
    rows[np.arange(len(rows)), np.round(features[:, 10] / 1000).astype(int)] = 1
    rows[:, 8] = features[:, 11] / 10_000
    return normalise(rows)


def blind(features: Floats) -> Floats:
    """An encoder that sees nothing but what tells no label."""
    return normalise(np.stack((np.ones(len(features)), features[:, 11] / 1000), axis=1))


@pytest.fixture(scope="module")
def flows() -> LabelledFlows:
    return flows_of(benign=400, attacks=200)


def test_a_day_has_the_attacks_that_its_prevalence_says(flows: LabelledFlows) -> None:
    for prevalence, found in zip(
        PREVALENCES, measure_prevalence(telling, flows, events=EVENTS), strict=True
    ):
        assert found["attacks"] == round(EVENTS * prevalence)


def test_attacks_that_the_encoder_tells_apart_are_found_however_rare(flows: LabelledFlows) -> None:
    for found in measure_prevalence(telling, flows, events=EVENTS):
        assert found["recall_at_10"]["folded"] == 1.0
        assert found["missed"]["prototype_of_own"] == found["missed"]["found"] == 1.0


def test_attacks_that_look_like_ordinary_traffic_are_not_called_found(flows: LabelledFlows) -> None:
    rarest = measure_prevalence(blind, flows, events=EVENTS)[0]
    assert rarest["recall_at_10"]["every_event_a_row"] < 0.1
    assert rarest["missed"]["prototype_of_own"] < 0.1
