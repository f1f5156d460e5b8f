"""What is known of one network, asked about another: benign or attack, and attacks never seen.

    python -m benchmarks.second_network.judge --known flows.parquet

`known` is the recording that the attack encoder learnt from; its held-out blocks of the clock are left out.
`across` is the macro-F1 of benign or attack when every flow of the second network asks its five nearest
flows of the first. `unseen` is the AUROC of the distance to the nearest known benign flow of the
second network, each kind of attack in turn against benign flows. The forest is null without scikit-learn.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from embed.attack import AttackEmbedder
from models.evaluate_attack import (
    Encoder,
    LabelledFlows,
    classification,
    nearest,
    raw_encoder,
    read_flows,
    unseen_class,
    vote,
    without_ports,
)
from models.forest_baseline import forest_figures
from models.labels import BENIGN
from models.store import locate

KEPT = Path(__file__).parent / "flows.parquet"
FIGURE = "benign_or_attack_macro_f1"


def joined(known: LabelledFlows, asked: LabelledFlows) -> LabelledFlows:
    """Both as one, with the asked flows held out, each labelled benign or attack."""
    held = np.repeat([False, True], [len(known.labels), len(asked.labels)])
    labels = np.concatenate((known.labels, asked.labels))
    return LabelledFlows(
        features=np.concatenate((known.features, asked.features)),
        labels=np.where(labels == BENIGN, BENIGN, "attack"),
        times_us=np.concatenate((known.times_us, asked.times_us)),
        held_by_time=held,
        held_at_random=held,
    )


def across(encode: Encoder, both: LabelledFlows, *, ports: bool) -> float:
    """Macro-F1 of benign or attack by the vote of five flows of the other network."""
    vectors = encode(both.features if ports else without_ports(both.features))
    held = both.held_at_random
    found, _ = nearest(vectors[~held], vectors[held], 5)
    return classification(both.labels[held], vote(both.labels[~held], found))[FIGURE]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--known", type=Path, required=True)
    parser.add_argument("--asked", type=Path, default=KEPT)
    options = parser.parse_args()
    known, asked = read_flows(options.known), read_flows(options.asked)
    known = known.only(~known.held_by_time)
    both = joined(known, asked)
    ours = AttackEmbedder(locate("attack", None)).embed_features
    names = {True: "with_ports", False: "without_ports"}
    result: dict[str, Any] = {"across": {}, "unseen": {}}
    for name, encode in (("ours", ours), ("raw", raw_encoder(known.features))):
        result["across"][name] = {
            names[ports]: round(across(encode, both, ports=ports), 3) for ports in (True, False)
        }
    forest = forest_figures(both, both.held_at_random)
    result["across"]["forest"] = (
        {ports: round(found[FIGURE], 3) for ports, found in forest.items()} if forest else None
    )
    own = raw_encoder(asked.features[~asked.held_at_random])
    for label in np.unique(asked.labels[asked.labels != BENIGN]):
        result["unseen"][str(label)] = {
            name: {
                names[ports]: round(
                    unseen_class(encode, asked, asked.held_at_random, label, ports=ports)[
                        "away_from_benign_auroc"
                    ],
                    3,
                )
                for ports in (True, False)
            }
            for name, encode in (("ours", ours), ("raw", own))
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
