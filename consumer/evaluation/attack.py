"""Measures the attack encoder on labelled flows, beside plain baselines."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.evaluation.prevalence import LEAST_FLOWS, common_attacks, measure_prevalence
from consumer.evaluation.sources import Sources
from embed.attack import AttackEmbedder
from models import evaluate_attack as attack
from models.evaluate_attack import steadiness
from models.forest_baseline import forest_figures
from models.labels import BENIGN
from models.other_networks import other_networks
from models.store import locate

THREADS = 2
COMMON = 30
TOO_FEW = (
    f"needs benign flows in held-out minutes and in others, and {COMMON} held-out flows of an attack "
    "that the others have too"
)
BY_TIME = "needs what the split by time needs"


def measure_attack(sources: Sources) -> dict[str, Any]:
    """The attack encoder on flows that its training did not see, beside two plain baselines.

    Returns:
        `splits`: by split (`time`, `random`; see `models.evaluate_attack`) and by encoder (`ours`,
        `raw` features, `forest`), the figures with ports and without. Of the random split of the shipped sample the
        shipped weights have seen most flows in training; only `time` says something about unseen
        ones. `forest` is None unless scikit-learn is installed.
        `scans_alike`: by split, see `models.evaluate_attack.scans_alike`.
        `steadiness`: mean cosine of held-out flows to themselves, changed in one way.
        `other_networks`: see `models.other_networks`. `prevalence`: see `consumer.evaluation.prevalence`.
        `not_measured`: what is None because the flows are too few for it, and what it needs.

    Raises:
        ModelError: the encoder is not on this machine, or altered.
    """
    started = time.monotonic()
    flows = attack.read_flows(sources.flows)
    ours = AttackEmbedder(locate("attack", sources.cache_dir), threads=THREADS)
    splits: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, held in (("time", flows.held_by_time), ("random", flows.held_at_random)):
        if not _says_something(flows.labels, held):
            splits[name], missing[name] = None, TOO_FEW
            continue
        encoders: dict[str, attack.Encoder] = {
            "ours": ours.embed_features,
            "raw": attack.raw_encoder(flows.features[~held]),
        }
        splits[name] = {
            encoder: {
                "with_ports" if ports else "without_ports": _rounded(
                    attack.retrieval(encode, flows, held, ports=ports)
                )
                for ports in (True, False)
            }
            for encoder, encode in encoders.items()
        }
        forest = forest_figures(flows, held)
        splits[name]["forest"] = forest and {ports: _rounded(one) for ports, one in forest.items()}
    by_time: dict[str, Any] = dict.fromkeys(("steadiness", "other_networks", "prevalence"))
    if "time" in missing:
        missing |= dict.fromkeys(by_time, BY_TIME)
    else:
        held_flows = flows.only(flows.held_by_time)
        networks = other_networks(ours.embed_features, flows, flows.held_by_time)
        by_time["steadiness"] = _rounded(steadiness(ours.embed_features, held_flows.features))
        by_time["other_networks"] = {name: _rounded(one) for name, one in networks.items()}
        if common_attacks(held_flows.labels):
            by_time["prevalence"] = measure_prevalence(ours.embed_features, held_flows)
        else:
            missing["prevalence"] = f"no attack has {LEAST_FLOWS} flows in the held-out minutes"
    return {
        "model": "attack",
        "source": sources.named,
        "flows": len(flows.labels),
        "splits": splits,
        "scans_alike": {
            "time": _rounded(attack.scans_alike(flows, flows.held_by_time)),
            "random": _rounded(attack.scans_alike(flows, flows.held_at_random)),
        },
        **by_time,
        "not_measured": missing,
        "seconds": round(time.monotonic() - started, 1),
    }


def _says_something(labels: NDArray[np.str_], held: attack.Flags) -> bool:
    """Whether benign flows stand on both sides of a split, and enough of one attack."""
    known = set(labels[~held].tolist())
    return (
        BENIGN in known
        and BENIGN in labels[held]
        and not known.isdisjoint(common_attacks(labels[held], COMMON))
    )


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}
