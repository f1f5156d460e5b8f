"""Opens the embedder of an index with the model that the manifest names for it."""

from __future__ import annotations

from pathlib import Path

from embed.attack import AttackEmbedder
from embed.embedder import Embedder
from embed.errors import EmbedError
from embed.semantic import SemanticEmbedder
from embed.timeseries import TimeSeriesEmbedder
from models.store import locate

INDICES = ("timeseries", "semantic", "attack")


def open_embedder(
    name: str,
    *,
    cache_dir: Path | None = None,
    threads: int = 2,
    scratch: Path | None = None,
    sentences: Path | None = None,
) -> Embedder:
    """Load the encoder of an index.

    Args:
        name: `timeseries`, `semantic` or `attack`.
        cache_dir: where models out of wheels are kept; the default cache if not given.
        threads: threads of the encoder.
        scratch: folder for temporary files; the system's if not given.
        sentences: file of sentence vectors across days; none is kept if not given.

    Raises:
        EmbedError: there is no such index.
        ModelError: the model is not on this machine, was altered, or cannot be loaded.
    """
    if name not in INDICES:
        raise EmbedError(f"no index is called {name!r}; there are {', '.join(INDICES)}")
    files = locate(name, cache_dir)
    if name == "timeseries":
        return TimeSeriesEmbedder(files, threads=threads, scratch=scratch)
    if name == "semantic":
        return SemanticEmbedder(files, threads=threads, scratch=scratch, cache=sentences)
    return AttackEmbedder(files, threads=threads, scratch=scratch)
