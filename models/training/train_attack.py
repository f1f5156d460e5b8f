"""Trains the attack encoder and writes it as ONNX; a run takes about two minutes of one core.

    python -m models.training.train_attack --flows flows.parquet --out models/artefacts/attack.onnx

Four random forests (L. Breiman, 2001), each on half the flows a tree and with a part of them
changed (`attack_views`), and a network (`attack_net`) go into one graph beside the geometry of the
features (`attack_graph`). Trees that saw only half of the flows tell of the other half what they would
tell of new ones, so that known and new flows of a kind lie together; forests kept apart, instead of
one large one, keep where the forests disagree, which is where a flow is unlike what they know.
Classes weigh alike in each tree: a kind of attack with ten flows has its leaves as well.

`--split time` trains on the clock blocks that are not held out, `--draw N` draws other blocks,
`--leave LABEL` leaves a class out altogether.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sklearn.ensemble import RandomForestClassifier

from models.evaluate_attack import (
    Encoder,
    Flags,
    Floats,
    LabelledFlows,
    raw_encoder,
    read_flows,
    retrieval,
    steadiness,
    unseen_class,
)
from models.forest_baseline import forest_figures
from models.labels import BENIGN
from models.training.attack_graph import (
    FORESTS_SHARE,
    GEOMETRIC,
    NETWORK_SHARE,
    Columns,
    encoder,
    learnt_columns,
    scale_of,
)
from models.training.attack_net import AttackNetwork, Budget, train_network
from models.training.attack_views import changed

FORESTS = 4
NETWORK = 44
TOLERANCE = 1e-4


def train(flows: LabelledFlows, chosen: Flags, options: argparse.Namespace) -> bytes:
    """The encoder as ONNX, trained on the flows of `chosen`; the same seed gives the same bytes.

    Raises:
        ArithmeticError: the graph says something else than forests and network themselves.
    """
    features, labels = flows.features[chosen], flows.labels[chosen]
    scale = scale_of(features)
    columns_of = learnt_columns(scale)
    forests = []
    for number in range(FORESTS):
        rng = np.random.default_rng((options.seed, number))
        moved = rng.random(len(features)) < options.changed
        copy = features.copy()
        copy[moved] = changed(features[moved], rng, strength=options.strength)
        forest = RandomForestClassifier(
            options.trees,
            max_samples=options.sample,
            max_features=options.columns,
            class_weight="balanced_subsample",
            random_state=options.seed + number,
            n_jobs=1,
        )
        forests.append(forest.fit(columns_of(copy)[0], labels))
    # As many numbers, however many classes were left out: the vector stays 256 wide.
    width = NETWORK + FORESTS * (len(np.unique(flows.labels)) - len(forests[0].classes_))
    budget = Budget(steps=options.steps, strength=options.strength, seed=options.seed)
    net = train_network(columns_of, features, labels, width, budget)
    content = encoder(scale, forests, net.weights()).SerializeToString(deterministic=True)
    difference = parity(content, columns_of, forests, net, awkward(features[:2000], options.seed))
    print(f"largest difference between the graph and its parts: {difference:.1e}")
    if difference > TOLERANCE:
        raise ArithmeticError(f"the graph is off by {difference:.1e}")
    return content


def awkward(features: Floats, seed: int) -> Floats:
    """Flows with missing, infinite, sentinel and absurd values among their own, and some of nothing."""
    rng = np.random.default_rng(seed)
    dice, rows = rng.random(features.shape), features.copy()
    for value, below in ((-3e30, 0.24), (np.inf, 0.23), (-9999.0, 0.22), (np.nan, 0.2)):
        rows[dice < below] = value
    return np.concatenate(
        (features, rows, np.full((1, 83), np.nan, np.float32), np.zeros((1, 83), np.float32))
    )


def parity(
    content: bytes,
    columns_of: Columns,
    forests: Sequence[RandomForestClassifier],
    net: AttackNetwork,
    features: Floats,
) -> float:
    """Largest difference of a learnt number between the graph, and scikit-learn and PyTorch."""
    columns, absent = columns_of(features)
    chances = np.concatenate([forest.predict_proba(columns) for forest in forests], axis=1)
    with torch.no_grad():
        drawn = net(torch.from_numpy(columns), torch.from_numpy(absent)).numpy()
    expected = np.concatenate(
        (
            np.sqrt(FORESTS_SHARE * chances / len(forests)),
            np.sqrt(NETWORK_SHARE) * drawn,
        ),
        axis=1,
    )
    vectors = encoder_of(content)(features)
    # The geometric part has one length in every flow; the whole is scaled by what source port and side part add.
    found = vectors[:, GEOMETRIC : GEOMETRIC + expected.shape[1]]
    lengths = np.linalg.norm(found, axis=1, keepdims=True) / np.linalg.norm(
        expected, axis=1, keepdims=True
    )
    return float(np.abs(found / lengths - expected).max())


def encoder_of(content: bytes) -> Encoder:
    """The graph as a function of numpy arrays."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options)
    return lambda features: np.concatenate(
        [
            session.run(None, {"features": features[at : at + 4096]})[0]
            for at in range(0, len(features), 4096)
        ]
    )


def figures(
    content: bytes, flows: LabelledFlows, options: argparse.Namespace
) -> Iterator[tuple[str, dict[str, float]]]:
    """What this run can show, against raw features and a plain forest on the same split."""
    held = flows.held_at_random if options.split == "random" else flows.held_by_time
    both = {"ours": encoder_of(content), "raw": raw_encoder(flows.features[~held])}
    for name, encode in both.items():
        for ports in (True, False):
            if options.leave:
                found = unseen_class(encode, flows, held, options.leave, ports=ports)
            else:
                found = retrieval(encode, flows, held, ports=ports)
            yield name if ports else f"{name} without ports", found
    if not options.leave:
        for ports, found in (forest_figures(flows, held) or {}).items():
            yield f"forest {ports}", found
        yield "steadiness", steadiness(both["ours"], flows.features[held])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--split", choices=("time", "random", "none"), default="time")
    parser.add_argument("--draw", type=int, default=0, help="0: the splits that are evaluated")
    parser.add_argument("--leave", default="", help="a label to leave out of training")
    parser.add_argument("--trees", type=int, default=25, help="of each of the four forests")
    parser.add_argument("--steps", type=int, default=1000, help="of the network's optimiser")
    parser.add_argument("--sample", type=float, default=0.5, help="share of the flows a tree sees")
    parser.add_argument("--columns", type=float, default=0.25, help="share of columns a node tries")
    parser.add_argument("--changed", type=float, default=0.3, help="share of the flows changed")
    parser.add_argument("--strength", type=float, default=1.0, help="of the changes")
    parser.add_argument("--seed", type=int, default=2017)
    options = parser.parse_args()
    flows = read_flows(options.flows, draw=options.draw)
    held = flows.held_at_random if options.split == "random" else flows.held_by_time
    chosen = (~held if options.split != "none" else np.ones(len(held), np.bool_)) & (
        flows.labels != options.leave
    )
    quiet = int((flows.labels == BENIGN)[chosen].sum())
    print(f"{int(chosen.sum())} flows to learn from, {quiet} of them benign")
    began = time.monotonic()
    content = train(flows, chosen, options)
    digest = hashlib.sha256(content).hexdigest()
    print(f"{time.monotonic() - began:.0f} s, {len(content)} bytes, sha256 {digest}", flush=True)
    if options.out:
        options.out.write_bytes(content)
    for name, found in figures(content, flows, options):
        print(
            json.dumps({name: {key: round(value, 4) for key, value in found.items()}}), flush=True
        )


if __name__ == "__main__":
    main()
