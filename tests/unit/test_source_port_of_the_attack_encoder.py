"""The shipped attack encoder: the source port decides between flows that are equal otherwise, and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embed.attack import AttackEmbedder
from models.evaluate_attack import Floats, LabelledFlows, read_flows
from models.store import locate

KEPT = Path(__file__).parents[2] / "benchmarks/second_network/flows.parquet"
PORT = 40_000


@pytest.fixture(scope="module")
def encoder() -> AttackEmbedder:
    return AttackEmbedder(locate("attack", None))


@pytest.fixture(scope="module")
def flows() -> LabelledFlows:
    return read_flows(KEPT)


def of_kind(flows: LabelledFlows, label: str) -> Floats:
    """The first flow of a kind, its source port `PORT`."""
    flow: Floats = flows.features[flows.labels == label][:1].copy()
    flow[:, 0] = PORT
    return flow


@pytest.mark.parametrize("label", ["port scan", "SSH guessing", "BENIGN"])
def test_of_equal_flows_those_from_the_same_port_lie_nearest_then_those_from_its_neighbour(
    encoder: AttackEmbedder, flows: LabelledFlows, label: str
) -> None:
    asked = of_kind(flows, label)
    others = np.repeat(asked, 4, axis=0)
    others[:, 0] = [PORT, PORT + 1, PORT + 200, 61_001]
    nearness = encoder.embed_features(others) @ encoder.embed_features(asked)[0]
    assert nearness[0] == pytest.approx(1, abs=1e-6)
    assert nearness[0] > nearness[1] > max(nearness[2:])


def test_flows_that_behave_alike_from_any_port_lie_nearer_than_others_from_the_same(
    encoder: AttackEmbedder, flows: LabelledFlows
) -> None:
    labels = ["port scan", "SSH guessing", "slow headers", "exfiltration", "BENIGN"]
    asked = np.concatenate([of_kind(flows, label) for label in labels])
    moved = asked.copy()
    moved[:, 0] = 61_001
    nearness = encoder.embed_features(asked) @ encoder.embed_features(moved).T
    from_the_same_port = encoder.embed_features(asked) @ encoder.embed_features(asked).T
    np.fill_diagonal(from_the_same_port, -1)
    assert (np.diag(nearness) > from_the_same_port.max(axis=1)).all()


@pytest.mark.parametrize("port", [np.nan, -9999.0, np.inf, -1.0, 0.0, 65_535.0, 1e30, -3e38])
def test_any_source_port_gives_a_vector_of_unit_length(
    encoder: AttackEmbedder, flows: LabelledFlows, port: float
) -> None:
    flow = of_kind(flows, "port scan")
    flow[:, 0] = port
    assert np.linalg.norm(encoder.embed_features(flow)[0]) == pytest.approx(1, abs=1e-5)
