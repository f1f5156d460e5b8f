"""Which measurement belongs to which encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from consumer.errors import UsageError
from consumer.evaluation.numeric import measure_attack, measure_timeseries
from consumer.evaluation.semantic import evaluate_semantic
from models.errors import ModelError

Measure = Callable[[Path | None], dict[str, Any]]

# By the name of the index; the encoder of an index is measured under either name.
MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "timeseries": measure_timeseries,
        "semantic": evaluate_semantic,
        "attack": measure_attack,
    }
)
_OTHER_NAMES = {"minilm": "semantic"}


def evaluate(name: str | None, cache_dir: Path | None) -> dict[str, Any]:
    """Measure one encoder, or all of them.

    Args:
        name: name of the encoder or of its index; None for all.
        cache_dir: where models are kept; the default if not given.

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
        return {index: MEASURES[index](cache_dir)}
    found: dict[str, Any] = {}
    for index, measure in MEASURES.items():
        try:
            found[index] = measure(cache_dir)
        except ModelError as error:
            found[index] = {"error": str(error)}
    return found
