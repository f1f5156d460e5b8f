"""Measures an attack encoder on labelled flows with numpy and pyarrow alone.

The encoder is any function from raw features (n, 83), NaN = missing, to unit vectors (n, d). Which
flows are held out follows from each flow alone, so that a subset of the data keeps the split:

- `time`: two-minute blocks of the clock, about a fifth of them held out whole. The shipped
  encoder never saw these blocks in training.
- `random`: a hash of the flow itself, about three in ten held out.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.labels import BENIGN, plain_labels

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Encoder = Callable[[Floats], Floats]

SCANS = ("Portscan", "Infiltration - Portscan")
PORT_COLUMNS = (0, 1)
FLOW_COLUMNS = (0, 1, 2, *range(5, 67))
BLOCK_US = 120_000_000
# Chosen so that every label stands on both sides; no figure of any model took part.
BLOCK_SALT = b"dayfold-block-1865"


@dataclass(frozen=True, slots=True)
class LabelledFlows:
    """Flows in the order of the file: `features` (n, 83) raw with NaN = missing."""

    features: Floats
    labels: NDArray[np.str_]
    times_us: NDArray[np.int64]
    held_by_time: Flags
    held_at_random: Flags

    def only(self, chosen: Flags) -> LabelledFlows:
        """These flows alone."""
        return LabelledFlows(
            self.features[chosen],
            self.labels[chosen],
            self.times_us[chosen],
            self.held_by_time[chosen],
            self.held_at_random[chosen],
        )


def feature_names() -> list[str]:
    """The 83 names, in the order of the contract."""
    with files("models").joinpath("features83.csv").open(encoding="utf-8") as text:
        return [row["name"] for row in csv.DictReader(text)]


def _digest(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def read_flows(path: Path, *, draw: int = 0) -> LabelledFlows:
    """Reads a Parquet file of labelled flows; features that the file lacks are missing.

    Both splits are drawn anew for each `draw`; the shipped encoder was trained on those of draw 0.
    """
    table = pq.read_table(path)
    features = np.full((table.num_rows, 83), np.nan, dtype=np.float32)
    for index, name in enumerate(feature_names()):
        if name in table.column_names:
            features[:, index] = table[name].to_numpy().astype(np.float32)
    times = table["timestamp"].to_numpy().astype("datetime64[us]").astype(np.int64)
    blocks = times // BLOCK_US
    salt = b"draw %d " % draw if draw else b""
    held = {
        int(b): _digest(salt + BLOCK_SALT + str(b).encode()) % 100 < 22 for b in np.unique(blocks)
    }
    columns = ("source_ip", "destination_ip", "source_port", "destination_port")
    keys = zip(times.tolist(), *(table[name].to_pylist() for name in columns), strict=True)
    return LabelledFlows(
        features=features,
        labels=plain_labels(table["label"].to_pylist()),
        times_us=times,
        held_by_time=np.array([held[int(b)] for b in blocks]),
        held_at_random=np.array([_digest(salt + repr(key).encode()) % 10 < 3 for key in keys]),
    )


def without_ports(features: Floats) -> Floats:
    """The same flows with both ports missing."""
    blind = features.copy()
    blind[:, PORT_COLUMNS] = np.nan
    return blind


def logged(features: Floats) -> Floats:
    """log1p of the 65 traffic columns (n, 65), of the size where negative; missing counts 0."""
    chosen = np.nan_to_num(features[:, FLOW_COLUMNS])
    return np.asarray(np.sign(chosen) * np.log1p(np.abs(chosen)), dtype=np.float32)


def raw_encoder(reference: Floats) -> Encoder:
    """The baseline: the logged traffic columns standardised on `reference`; not unit length."""
    middle = logged(reference).mean(0)
    spread = logged(reference).std(0) + 1e-9
    return lambda features: np.asarray((logged(features) - middle) / spread, dtype=np.float32)


def nearest(reference: Floats, queries: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Indices and Euclidean distances (m, k) of the nearest reference rows, nearest first."""
    squares = (reference**2).sum(1)
    found, distances = [], []
    for at in range(0, len(queries), 1024):
        part = queries[at : at + 1024]
        gaps = squares[None] - 2 * part @ reference.T + (part**2).sum(1)[:, None]
        first = np.argpartition(gaps, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(gaps, first, 1)
        order = np.argsort(values, axis=1, kind="stable")
        found.append(np.take_along_axis(first, order, 1))
        distances.append(np.sqrt(np.maximum(np.take_along_axis(values, order, 1), 0)))
    return np.concatenate(found), np.concatenate(distances).astype(np.float32)


def vote(labels: NDArray[np.str_], neighbours: NDArray[np.int64]) -> NDArray[np.str_]:
    """The most frequent label of each row's neighbours; a tie goes to the nearer label."""
    names, numbers = np.unique(labels, return_inverse=True)
    k = neighbours.shape[1]
    ballots = np.zeros((len(neighbours), len(names)))
    for place in range(k):
        ballots[np.arange(len(neighbours)), numbers[neighbours[:, place]]] += 1 + (k - place) / 1000
    return np.asarray(names[ballots.argmax(1)])


def macro_f1(truth: NDArray[np.str_], guess: NDArray[np.str_], *, smallest: int = 1) -> float:
    """Mean F1 over the labels that have at least `smallest` flows in `truth`."""
    scores = []
    for label in np.unique(truth):
        if (truth == label).sum() >= smallest:
            hits = float(((truth == label) & (guess == label)).sum())
            scores.append(2 * hits / float((truth == label).sum() + (guess == label).sum()))
    return float(np.mean(scores))


def auroc(positive: Floats, negative: Floats) -> float:
    """Chance that a positive scores above a negative; ties count half."""
    both = np.concatenate((positive, negative))
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def retrieval(
    encode: Encoder, flows: LabelledFlows, held: Flags, *, ports: bool = True
) -> dict[str, float]:
    """Held-out flows against the others: 5-NN macro-F1, accuracy, recall@10, benign or attack."""
    features = flows.features if ports else without_ports(flows.features)
    vectors = encode(features)
    reference, queries = vectors[~held], vectors[held]
    known, truth = flows.labels[~held], flows.labels[held]
    found, _ = nearest(reference, queries, 10)
    guess = vote(known, found[:, :5])
    sizes = {label: int((known == label).sum()) for label in np.unique(truth)}
    reachable = np.array([max(1, min(10, sizes[label])) for label in truth])
    recall = (known[found] == truth[:, None]).sum(1) / reachable
    return classification(truth, guess) | {
        "recall_at_10": float(np.mean([recall[truth == a].mean() for a in np.unique(truth)]))
    }


def classification(truth: NDArray[np.str_], guess: NDArray[np.str_]) -> dict[str, float]:
    """Macro-F1 over all labels and over the common ones, the same with scans as one, accuracy, benign or attack."""
    truth_of_one, guess_of_one = scans_as_one(truth), scans_as_one(guess)
    return {
        "flows": float(len(truth)),
        "macro_f1": macro_f1(truth, guess),
        "macro_f1_labels_of_30_or_more": macro_f1(truth, guess, smallest=30),
        "macro_f1_scans_as_one": macro_f1(truth_of_one, guess_of_one),
        "macro_f1_scans_as_one_labels_of_30_or_more": macro_f1(
            truth_of_one, guess_of_one, smallest=30
        ),
        "accuracy": float((truth == guess).mean()),
        "benign_or_attack_macro_f1": macro_f1(
            np.where(truth == BENIGN, "benign", "attack"),
            np.where(guess == BENIGN, "benign", "attack"),
        ),
    }


def scans_as_one(labels: NDArray[np.str_]) -> NDArray[np.str_]:
    """The two labels of port scans as one: the same empty flows, sent from two places."""
    return np.where(np.isin(labels, SCANS), SCANS[0], labels)


def scans_alike(flows: LabelledFlows, held: Flags) -> dict[str, float]:
    """By label of scan, the share of its held-out flows that a known flow of the other label equals but for the ports."""
    columns = without_ports(flows.features)[:, FLOW_COLUMNS]
    rows = np.array([row.tobytes() for row in np.nan_to_num(columns, nan=-1.0)], dtype=object)
    found = {}
    for label, other in (SCANS, SCANS[::-1]):
        asked = rows[held & (flows.labels == label)]
        known = set(rows[~held & (flows.labels == other)])
        if len(asked):
            found[label] = float(np.mean([row in known for row in asked]))
    return found


def steadiness(encode: Encoder, features: Floats, *, seed: int = 0) -> dict[str, float]:
    """Mean cosine of flows to themselves when something that should not matter is changed."""
    rng = np.random.default_rng(seed)
    n = len(features)
    changed = {
        name: features.copy()
        for name in ("random_ports", "detector_scores", "a_fifth_missing", "a_fifth_sentinels")
    }
    changed["random_ports"][:, PORT_COLUMNS] = rng.integers(1, 65536, (n, 2))
    changed["detector_scores"][:, 67:80] = rng.random((n, 13), dtype=np.float32)
    holes = rng.random(features.shape) < 0.2
    changed["a_fifth_missing"][holes] = np.nan
    changed["a_fifth_sentinels"][holes] = -9999.0
    own = encode(features)
    return {name: float((own * encode(rows)).sum(1).mean()) for name, rows in changed.items()}


def unseen_class(
    encode: Encoder, flows: LabelledFlows, held: Flags, label: str, *, ports: bool = True
) -> dict[str, float]:
    """How flows of a class that training never saw stand to benign ones and to each other.

    `away_from_benign`: AUROC of the distance to the nearest known benign flow, this class against
    held-out benign flows; `beyond_99_percent_of_benign` and `benign_beyond_it` say what a threshold
    set on known benign flows, at one false alarm in a hundred, finds in both. `novel`: the same with the nearest known flow of any other class.
    `together`: AUROC of the similarity of pairs within the class against pairs with any other
    held-out flow. `own_neighbours`: share of the ten nearest that are of the class, among its
    own flows and all others, one flow asked at a time.
    """
    features = flows.features if ports else without_ports(flows.features)
    rng = np.random.default_rng(0)
    ours = np.flatnonzero(flows.labels == label)
    ours = ours if len(ours) <= 1500 else np.sort(rng.choice(ours, 1500, replace=False))
    others = flows.labels != label
    known = np.flatnonzero(others & ~held)
    benign = encode(features[known[flows.labels[known] == BENIGN]])
    anything = encode(features[known])
    inside = encode(features[ours])
    quiet = encode(features[np.flatnonzero(held & (flows.labels == BENIGN))])
    mixed = encode(features[np.flatnonzero(held & others)])
    far, near = nearest(benign, inside, 1)[1][:, 0], nearest(benign, quiet, 1)[1][:, 0]
    # The distance that one in a hundred known benign flows has to its nearest other one.
    limit = np.quantile(nearest(benign, benign, 2)[1][:, 1], 0.99)
    novel = auroc(nearest(anything, inside, 1)[1][:, 0], nearest(anything, quiet, 1)[1][:, 0])
    left = rng.integers(0, len(inside), 20_000)
    right = rng.integers(0, len(inside), 20_000)
    apart = left != right
    within = -((inside[left] - inside[right]) ** 2).sum(1)[apart]
    across = -((inside[left] - mixed[rng.integers(0, len(mixed), 20_000)]) ** 2).sum(1)
    pool = np.concatenate((inside, anything))
    k = min(10, len(inside) - 1)
    found, _ = nearest(pool, inside, k + 1)
    own = [float((row[row != place][:k] < len(inside)).mean()) for place, row in enumerate(found)]
    return {
        "flows": float(len(ours)),
        "away_from_benign_auroc": auroc(far, near),
        "beyond_99_percent_of_benign": float((far > limit).mean()),
        "benign_beyond_it": float((near > limit).mean()),
        "novel_auroc": novel,
        "together_auroc": auroc(within, across),
        "own_neighbours": float(np.mean(own)),
    }
