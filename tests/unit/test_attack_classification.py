"""What the figures of a guess count."""

import numpy as np
import pytest

from models.evaluate_attack import PORT_COLUMNS, SCANS, LabelledFlows, classification, scans_alike

SCAN, ITS_TWIN = SCANS
# Four labels; half of one kind of scan is taken for the other, half of the floods for nothing at all.
TRUTH = np.repeat(["BENIGN", SCAN, ITS_TWIN, "DDoS"], [80, 40, 40, 40])
GUESS = np.repeat(["BENIGN", SCAN, SCAN, ITS_TWIN, "BENIGN", "DDoS"], [80, 40, 20, 20, 20, 20])


def test_every_label_weighs_alike() -> None:
    f1 = {"BENIGN": 8 / 9, SCAN: 4 / 5, ITS_TWIN: 2 / 3, "DDoS": 2 / 3}
    found = classification(TRUTH, GUESS)
    assert found["macro_f1"] == pytest.approx(sum(f1.values()) / 4)
    assert found["accuracy"] == 0.8


def test_rare_labels_can_be_left_out() -> None:
    rare = np.repeat(["Heartbleed"], 29)
    found = classification(np.append(TRUTH, rare), np.append(GUESS, np.full(29, "DDoS")))
    f1 = {"BENIGN": 8 / 9, SCAN: 4 / 5, ITS_TWIN: 2 / 3, "DDoS": 40 / 89}
    assert found["macro_f1"] == pytest.approx(sum(f1.values()) / 5)
    assert found["macro_f1_labels_of_30_or_more"] == pytest.approx(sum(f1.values()) / 4)


def test_a_scan_that_is_taken_for_the_other_scan_counts_as_found_where_both_are_one() -> None:
    f1 = {"BENIGN": 8 / 9, SCAN: 1.0, "DDoS": 2 / 3}
    assert classification(TRUTH, GUESS)["macro_f1_scans_as_one"] == pytest.approx(
        sum(f1.values()) / 3
    )


def test_an_attack_that_is_taken_for_another_is_still_an_attack() -> None:
    found = classification(TRUTH, GUESS)["benign_or_attack_macro_f1"]
    assert found == pytest.approx((8 / 9 + 10 / 11) / 2)


def test_scans_are_alike_that_differ_in_their_ports_alone() -> None:
    features = np.full((4, 83), np.nan, np.float32)
    features[:, PORT_COLUMNS] = np.arange(8).reshape(4, 2)
    features[:, 10] = [5, 6, 5, 7]
    labels = np.array([SCAN, SCAN, ITS_TWIN, ITS_TWIN])
    held = np.array([True, True, False, False])
    flows = LabelledFlows(features, labels, np.zeros(4, np.int64), held, held)
    assert scans_alike(flows, held) == {SCAN: 0.5}
    assert scans_alike(flows, ~held) == {ITS_TWIN: 0.5}
