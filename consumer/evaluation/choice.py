"""Which measurement belongs to which encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from consumer.errors import UsageError
from consumer.evaluation.attack import measure_attack
from consumer.evaluation.novelty import measure_novelty
from consumer.evaluation.semantic import evaluate_semantic
from consumer.evaluation.sources import Sources
from consumer.evaluation.timeseries import measure_timeseries
from models.errors import ModelError

Measure = Callable[[Sources], dict[str, Any]]

# By the name of the index; the encoder of an index is measured under either name. Novelty is
# measured on the day rows of all three.
MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "timeseries": measure_timeseries,
        "semantic": lambda sources: evaluate_semantic(sources.cache_dir),
        "attack": measure_attack,
        "novelty": measure_novelty,
    }
)
_OTHER_NAMES = {"minilm": "semantic"}


def evaluate(name: str | None, sources: Sources) -> dict[str, Any]:
    """Measure one encoder, or all of them and novelty.

    Args:
        name: name of the encoder or of its index, or `novelty`; None for all.
        sources: the data to measure on.

    Returns:
        By name of the index, the figures; `{"error": ...}` for an encoder that is not on this
        machine, when all were asked for.

    Raises:
        UsageError: no such encoder.
        ModelError: the one encoder asked for is not on this machine, or altered.
    """
    if name is not None:
        index = _OTHER_NAMES.get(name, name)
        if index not in MEASURES:
            known = ", ".join((*MEASURES, *_OTHER_NAMES))
            raise UsageError(f"model {name!r}: use one of {known}")
        return {index: MEASURES[index](sources)}
    found: dict[str, Any] = {}
    for index, measure in MEASURES.items():
        try:
            found[index] = measure(sources)
        except ModelError as error:
            found[index] = {"error": str(error)}
    return found
