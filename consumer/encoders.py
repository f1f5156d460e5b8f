"""Encoders for questions, and the name under which an index remembers its encoder."""

from __future__ import annotations

from pathlib import Path

from embed.attack import AttackEmbedder
from embed.rows import ModelFacts
from embed.semantic import SemanticEmbedder
from index.store import ModelIdentity
from models.store import locate


def open_semantic(cache_dir: Path | None, *, threads: int = 1) -> SemanticEmbedder:
    """The semantic embedder; raises `ModelError` if its files are missing or altered."""
    return SemanticEmbedder(locate("semantic", cache_dir), threads=threads)


def open_attack(cache_dir: Path | None, *, threads: int = 1) -> AttackEmbedder:
    """The attack embedder; raises `ModelError` if its files are missing or altered."""
    return AttackEmbedder(locate("attack", cache_dir), threads=threads)


def identity(model: ModelFacts) -> ModelIdentity:
    """The model as an index remembers it: rows of two identities are never mixed."""
    return ModelIdentity(f"{model.name}/{model.recipe}", model.sha256)
