"""Measures whether ordinary traffic pushes attacks out of the neighbours, as attacks get rarer.

A day is made of held-out flows: many benign ones, and attacks of every common label, together one in
a thousand, one in a hundred or one in ten. As on a real day the detector flags most attacks and a
few benign flows (`consumer.replay.verdicts`): flagged flows get rows of their own, all others go
into prototypes (`embed.clusters`). Then attacks that are not of that day are looked up in it.

Benign flows are drawn anew from those there are, each with its sizes, times and rates changed a
little, for a day of twenty thousand needs more of them than were recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.replay.verdicts import FALSE_POSITIVES, MISSES
from embed.clusters import LeaderClusters
from embed.prototypes import NEAR, PROTOTYPES
from embed.rows import Vectors
from models.evaluate_attack import FLOW_COLUMNS, Encoder, Floats, LabelledFlows
from models.labels import BENIGN

SEED = 3
EVENTS = 20_000
PREVALENCES = (0.001, 0.01, 0.1)
LEAST_FLOWS = 60
QUERIES = 40
JITTER = 0.05
BLOCK = 1024
K = 10


@dataclass(frozen=True, slots=True)
class _Day:
    """Vectors, labels and flags of the events of a day, in the order in which they came."""

    vectors: Vectors
    labels: NDArray[np.str_]
    flagged: NDArray[np.bool_]


def common_attacks(labels: NDArray[np.str_], least: int = LEAST_FLOWS) -> list[str]:
    """Attacks that so many of the labels name; by default enough to ask with some and make a day of the others."""
    names, counts = np.unique(labels[labels != BENIGN], return_counts=True)
    return [str(name) for name in names[counts >= least]]


def measure_prevalence(
    encode: Encoder, flows: LabelledFlows, *, events: int = EVENTS
) -> list[dict[str, Any]]:
    """One entry per prevalence, each about a day of so many events.

    `flows` have some of `common_attacks`, and benign ones.

    Returns:
        `recall_at_10`: how many of the ten nearest rows are flows of the asked attack's own label, of
        as many as there can be, mean over the labels: `folded`, flagged flows and prototypes, as the
        attack index holds them; `every_event_a_row`, as a plain index of all events would.
        `missed`: attacks that the detector did not flag, asked as if none had been: `prototype_of_own`,
        the share of them whose prototype is made of their own label by more than half;
        `found`, the share of the asked attacks that have such a prototype among the ten nearest.
    """
    rng = np.random.default_rng(SEED)
    labels = common_attacks(flows.labels)
    asked, kept = [], []
    for label in labels:
        own = rng.permutation(np.flatnonzero(flows.labels == label))
        asked.append(own[:QUERIES])
        kept.append(own[QUERIES:])
    queries = encode(flows.features[np.concatenate(asked)])
    truth = flows.labels[np.concatenate(asked)]
    found = []
    for prevalence in PREVALENCES:
        each = max(1, round(events * prevalence / len(labels)))
        day = _made_day(encode, flows, [rng.choice(own, each) for own in kept], events, rng)
        hidden = np.zeros(events, dtype=np.bool_)
        found.append(
            {
                "prevalence": prevalence,
                "events": events,
                "attacks": int((day.labels != BENIGN).sum()),
                "recall_at_10": {
                    "folded": _recall(*_folded(day, day.flagged)[:2], queries, truth),
                    "every_event_a_row": _recall(day.vectors, day.labels, queries, truth),
                },
                "missed": _missed(day, *_folded(day, hidden), queries, truth),
            }
        )
    return found


def _made_day(
    encode: Encoder,
    flows: LabelledFlows,
    attacks: list[NDArray[np.int64]],
    events: int,
    rng: np.random.Generator,
) -> _Day:
    chosen = np.concatenate(attacks)
    quiet = rng.choice(np.flatnonzero(flows.labels == BENIGN), events - len(chosen))
    places = rng.permutation(np.concatenate((chosen, quiet)))
    labels = flows.labels[places]
    flagged = rng.random(events) < np.where(labels == BENIGN, FALSE_POSITIVES, 1 - MISSES)
    return _Day(encode(_changed(flows.features[places], rng)), labels, flagged)


def _changed(features: Floats, rng: np.random.Generator) -> Floats:
    """The same flows a little larger or slower: every measured traffic column but protocol and ports."""
    columns = list(FLOW_COLUMNS[3:])
    changed = features.copy()
    factors = np.exp(JITTER * rng.standard_normal((len(features), 1)))
    counted = np.round(features[:, columns]) == features[:, columns]
    moved = features[:, columns] * factors
    changed[:, columns] = np.where(counted, np.round(moved), moved)
    return changed


def _folded(
    day: _Day, flagged: NDArray[np.bool_]
) -> tuple[Vectors, NDArray[np.str_], NDArray[np.int64]]:
    """Rows of the attack index, the label of most flows behind each, and each event's row."""
    clusters = LeaderClusters(day.vectors.shape[1], most=PROTOTYPES, near=NEAR)
    rest = np.flatnonzero(~flagged)
    groups = np.zeros(0, dtype=np.int64)
    for start in range(0, len(rest), BLOCK):
        placed = clusters.add(day.vectors[rest[start : start + BLOCK]])
        if placed.merged is not None:
            groups = placed.merged[groups]
        groups = np.concatenate((groups, placed.groups))
    rows = np.concatenate((day.vectors[flagged], clusters.vectors()))
    names, numbers = np.unique(day.labels, return_inverse=True)
    votes = np.zeros((len(clusters), len(names)), dtype=np.int64)
    np.add.at(votes, (groups, numbers[rest]), 1)
    # More than half: a prototype that is of no label by more than half is of none.
    majority = np.where(2 * votes.max(axis=1) > votes.sum(axis=1), names[votes.argmax(axis=1)], "")
    row_of = np.zeros(len(day.labels), dtype=np.int64)
    row_of[flagged] = np.arange(int(flagged.sum()))
    row_of[rest] = int(flagged.sum()) + groups
    return rows, np.concatenate((day.labels[flagged], majority)), row_of


def _nearest(rows: Vectors, queries: Vectors) -> NDArray[np.int64]:
    likeness = queries @ rows.T
    found: NDArray[np.int64] = np.argpartition(-likeness, min(K, len(rows) - 1), axis=1)[:, :K]
    return found


def _recall(
    rows: Vectors, labels: NDArray[np.str_], queries: Vectors, truth: NDArray[np.str_]
) -> float:
    hits = (labels[_nearest(rows, queries)] == truth[:, None]).sum(axis=1)
    shares = []
    for label in np.unique(truth):
        reachable = max(1, min(K, int((labels == label).sum())))
        shares.append(hits[truth == label].mean() / reachable)
    return round(float(np.mean(shares)), 3)


def _missed(
    day: _Day,
    rows: Vectors,
    labels: NDArray[np.str_],
    row_of: NDArray[np.int64],
    queries: Vectors,
    truth: NDArray[np.str_],
) -> dict[str, float]:
    attacks = day.labels != BENIGN
    own = labels[row_of] == day.labels
    near = (labels[_nearest(rows, queries)] == truth[:, None]).any(axis=1)
    return {
        "prototypes": float(len(rows)),
        "prototype_of_own": round(
            float(
                np.mean([own[day.labels == one].mean() for one in np.unique(day.labels[attacks])])
            ),
            3,
        ),
        "found": round(float(np.mean([near[truth == one].mean() for one in np.unique(truth)])), 3),
    }
