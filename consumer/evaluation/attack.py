"""Measures the attack encoder on labelled flows, beside plain baselines."""

from __future__ import annotations

import time
from typing import Any

from consumer.evaluation.prevalence import measure_prevalence
from consumer.evaluation.sources import Sources
from embed.attack import AttackEmbedder
from models import evaluate_attack as attack
from models.evaluate_attack import steadiness
from models.forest_baseline import forest_figures
from models.other_networks import other_networks
from models.store import locate

THREADS = 2


def measure_attack(sources: Sources) -> dict[str, Any]:
    """The attack encoder on flows that its training did not see, beside two plain baselines.

    Returns:
        `splits`: by split (`time`, `random`; see `models.evaluate_attack`) and by encoder (`ours`,
        `raw` features, `forest`), the figures with ports and without. Of the random split the
        shipped weights have seen most flows in training; only `time` says something about unseen
        ones. `forest` is None unless scikit-learn is installed.
        `steadiness`: mean cosine of held-out flows to themselves, changed in one way.
        `other_networks`: see `models.other_networks`. `prevalence`: see `consumer.evaluation.prevalence`.

    Raises:
        ModelError: the encoder is not on this machine, or altered.
    """
    started = time.monotonic()
    flows = attack.read_flows(sources.flows)
    ours = AttackEmbedder(locate("attack", sources.cache_dir), threads=THREADS)
    splits: dict[str, Any] = {}
    for name, held in (("time", flows.held_by_time), ("random", flows.held_at_random)):
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
    held_flows = flows.only(flows.held_by_time)
    return {
        "model": "attack",
        "source": sources.named,
        "flows": len(flows.labels),
        "splits": splits,
        "steadiness": _rounded(steadiness(ours.embed_features, held_flows.features)),
        "other_networks": {
            name: _rounded(one)
            for name, one in other_networks(ours.embed_features, flows, flows.held_by_time).items()
        },
        "prevalence": measure_prevalence(ours.embed_features, held_flows),
        "seconds": round(time.monotonic() - started, 1),
    }


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}
