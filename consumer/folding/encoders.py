"""Encoders for questions, and the name under which an index remembers its encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from embed import attack, semantic, timeseries
from embed.attack import AttackEmbedder
from embed.rows import ModelFacts
from embed.semantic import SemanticEmbedder
from index.store import ModelIdentity
from models.manifest import find_entry
from models.store import installed_models, locate

Installed = Callable[[str], tuple[int, ModelIdentity]]

_RECIPES = {
    "timeseries": timeseries.RECIPE,
    "semantic": semantic.RECIPE,
    "attack": attack.RECIPE,
}


def open_semantic(cache_dir: Path | None, *, threads: int = 1) -> SemanticEmbedder:
    """The semantic embedder; raises `ModelError` if its files are missing or altered."""
    return SemanticEmbedder(locate("semantic", cache_dir), threads=threads)


def open_attack(cache_dir: Path | None, *, threads: int = 1) -> AttackEmbedder:
    """The attack embedder; raises `ModelError` if its files are missing or altered."""
    return AttackEmbedder(locate("attack", cache_dir), threads=threads)


def identity(model: ModelFacts) -> ModelIdentity:
    """The model as an index remembers it: rows of two identities are never mixed."""
    return ModelIdentity(f"{model.name}/{model.recipe}", model.sha256)


def installed(index: str, cache_dir: Path | None = None) -> tuple[int, ModelIdentity]:
    """Dimension and model of the rows that are made now for an index; loads nothing.

    Args:
        index: its name.
        cache_dir: where an operator's own encoder would be; the default cache if not given.
    """
    entry = find_entry(index, installed_models(cache_dir))
    facts = ModelFacts(entry.name, entry.digest, _RECIPES[index])
    return entry.dimension, identity(facts)
