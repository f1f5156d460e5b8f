"""Which models make rows now: read from the manifest, without loading an encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embed.recipes import RECIPES
from embed.rows import ModelFacts
from index.store import ModelIdentity
from models.manifest import find_entry
from models.store import installed_models, state

#: Dimension and model of the rows that are made for an index.
Installed = Callable[[str], tuple[int, ModelIdentity]]


@dataclass(frozen=True, slots=True)
class Models:
    """What is installed.

    Attributes:
        installed: see `Installed`.
        ready: whether the files of the model of an index are on this machine, unaltered.
    """

    installed: Installed
    ready: Callable[[str], bool]


def identity(model: ModelFacts) -> ModelIdentity:
    """The model as an index remembers it: rows of two identities are never mixed."""
    return ModelIdentity(f"{model.name}/{model.recipe}", model.sha256)


def installed(index: str, cache_dir: Path | None = None) -> tuple[int, ModelIdentity]:
    """Dimension and model of the rows that are made now for an index.

    Args:
        index: its name.
        cache_dir: where an operator's own encoder would be; the default cache if not given.
    """
    entry = find_entry(index, installed_models(cache_dir))
    return entry.dimension, identity(ModelFacts(entry.name, entry.digest, RECIPES[index]))


def models_of(cache_dir: Path | None) -> Models:
    """What this version has, with the models that come out of wheels in `cache_dir`."""

    def ready(index: str) -> bool:
        return state(find_entry(index, installed_models(cache_dir)), cache_dir) == "ready"

    return Models(lambda index: installed(index, cache_dir), ready)
