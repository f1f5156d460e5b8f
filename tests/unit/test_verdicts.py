"""Simulated verdicts say what a detector can say, with a detector's mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from consumer.replay.verdicts import TRAFFIC_COLUMNS, Floats, Verdict, judge
from models.labels import BENIGN

MANY = np.arange(20_000, dtype=np.int64)
# Five packets each way within a second, no connection opened or reset.
QUIET: dict[str, Floats] = {
    name: np.full(len(MANY), 0.0 if name.endswith("flag_count") else 5.0)
    for name in TRAFFIC_COLUMNS
}


def _judge(label: str | None, *, seed: int = 0, **traffic: float) -> list[Verdict]:
    columns = QUIET | {name: np.full(len(MANY), value) for name, value in traffic.items()}
    return judge(MANY, columns, None if label is None else [label] * len(MANY), seed=seed)


def _flagged(verdicts: list[Verdict]) -> float:
    return sum(verdict.classification != "BENIGN" for verdict in verdicts) / len(verdicts)


def test_about_one_benign_flow_in_a_hundred_is_flagged() -> None:
    assert 0.008 < _flagged(_judge(BENIGN)) < 0.012


@pytest.mark.parametrize("label", ["DDoS", "SSH-Patator", "Heartbleed"])
def test_about_one_attack_in_ten_is_missed(label: str) -> None:
    assert 0.89 < _flagged(_judge(label)) < 0.91


def test_two_attacks_of_one_severity_get_the_same_verdicts() -> None:
    assert _judge("SSH-Patator") == _judge("Portscan") == _judge("Web Attack - XSS")
    assert _judge("DDoS") == _judge("DoS Slowloris")


def test_a_detector_names_floods_only() -> None:
    assert {verdict.category for verdict in _judge("DDoS")} == {"NORMAL", "DDOS"}
    categories = [verdict.category for verdict in _judge("SSH-Patator")]
    assert set(categories) == {"NORMAL", "DDOS"}
    assert categories.count("DDOS") / len(categories) < 0.05


def test_ransomware_is_said_of_large_transfers_only() -> None:
    verdicts = _judge("Infiltration", total_backward_bytes=5e6)
    assert {verdict.category for verdict in verdicts} >= {"NORMAL", "RANSOMWARE"}


def test_a_row_has_its_verdict_whatever_it_is_judged_with() -> None:
    labels = ["DDoS" if row % 3 else BENIGN for row in MANY]
    whole = judge(MANY, QUIET, labels, seed=7)
    some = MANY[5::11]
    part = judge(
        some,
        {name: column[some] for name, column in QUIET.items()},
        [labels[row] for row in some],
        seed=7,
    )
    assert part == [whole[row] for row in some]


def test_another_seed_makes_other_mistakes() -> None:
    assert _judge("DDoS", seed=1) != _judge("DDoS", seed=2)


def test_the_reason_comes_from_the_traffic() -> None:
    verdicts = _judge("DDoS", syn_flag_count=1, total_backward_bytes=0, total_backward_packets=0)
    assert {verdict.reason for verdict in verdicts if verdict.triggered} == {"syn_without_answer"}
    assert {verdict.reason for verdict in verdicts if not verdict.triggered} == {""}


def test_without_labels_the_traffic_alone_is_judged() -> None:
    assert _flagged(_judge(None)) < 0.012
    scan = _judge(None, syn_flag_count=1, total_backward_bytes=0, total_backward_packets=0)
    assert _flagged(scan) > 0.89


def test_missing_traffic_columns_hit_no_rule() -> None:
    verdicts = judge(MANY, {}, None, seed=0)
    assert {verdict.reason for verdict in verdicts} <= {"", "stat_anomaly"}
    assert _flagged(verdicts) < 0.012


@pytest.mark.parametrize("label", [BENIGN, "DDoS", "Portscan"])
def test_scores_and_classification_agree(label: str) -> None:
    for verdict in _judge(label):
        assert 0.0 <= min(verdict.fast, verdict.ml) <= verdict.overall <= 1.0
        assert verdict.overall == max(verdict.fast, verdict.ml)
        assert verdict.divergence == pytest.approx(abs(verdict.fast - verdict.ml), abs=1e-4)
        assert verdict.classification == (
            "MALICIOUS"
            if verdict.overall >= 0.85
            else "SUSPICIOUS"
            if verdict.overall >= 0.55
            else "BENIGN"
        )
        assert verdict.category == "NORMAL" or verdict.classification != "BENIGN"
