"""An operator's own time-series encoder, out of a real Chronos checkpoint.

The checkpoint becomes a graph with the contract of the index (`models.training.chronos_export`,
which needs PyTorch and `chronos-forecasting`: the extra `train`). Here it is checked without them, put
into the cache beside the encoders that were fetched, and named in the cache's own manifest. From then on it takes
the place of the shipped encoder: `models.store.locate` finds it, and as its digest is another one, the
index is known to be built with another model.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import ModelBuildError
from models.manifest import ModelEntry, find_entry, load_manifest, read_manifest
from models.store import ModelFiles, default_cache_dir, locate, operator_manifest, sha256_file

INDEX = "timeseries"
CARD = "cards/chronos.md"
EXPORTER = "models.training.chronos_export"
SHORTEST = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What an export says of its checkpoint.

    Attributes:
        context: the longest series that it takes whole, in steps.
        pooling: how its states become one vector.
        revision: commit of the checkpoint, empty if it has none.
    """

    context: int
    pooling: str
    revision: str


Export = Callable[[str, Path], Checkpoint]


def build_checkpoint(
    source: str, *, cache_dir: Path | None = None, export: Export | None = None
) -> ModelFiles:
    """Make a checkpoint the encoder of the time-series index on this machine.

    Args:
        source: a folder with the checkpoint, or a name such as `amazon/chronos-bolt-small` that
            `chronos-forecasting` can fetch or has in its own cache.
        cache_dir: where to keep it; `models.store.default_cache_dir()` if not given.
        export: writes the graph; the real exporter if not given.

    Raises:
        ModelBuildError: the training extra is missing, the checkpoint cannot be had or is of another
            kind, or its graph does not keep the contract. Nothing has changed then.
    """
    folder = cache_dir or default_cache_dir()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder, prefix="checkpoint-") as scratch:
        graph = Path(scratch) / "graph.onnx"
        try:
            made = (export or _real_export())(source, graph)
        except ModelBuildError as error:
            raise ModelBuildError(
                f"checkpoint {source} cannot be used: {error}; give a folder that holds config.json "
                "and weights of Chronos-T5 or Chronos-Bolt, or a name, once with a network"
            ) from error
        shipped = find_entry(INDEX)
        check_graph(graph, context=made.context, width=shipped.dimension)
        entry = _entry(source, made, shipped, sha256_file(graph), folder)
        graph.chmod(0o600)
        _synced(graph)
        graph.replace(entry.artefact)
    _write_manifest(folder, entry)
    return locate(INDEX, cache_dir)


def use_shipped(cache_dir: Path | None = None) -> bool:
    """Go back to the shipped time-series encoder; whether there was another one."""
    folder = cache_dir or default_cache_dir()
    own = _own(folder)
    if all(entry.index != INDEX for entry in own):
        return False
    _write_manifest(folder, None)
    return True


def check_graph(path: Path, *, context: int, width: int) -> None:
    """Hold a graph to the contract: `series` (n, L <= context) to `embedding` (n, width).

    Every length has a finite vector, whatever the values, and a step at either end and in the
    middle of a full context moves the vector: a graph that cuts what it is given is refused.

    Raises:
        ModelBuildError: it does not keep it.
    """
    # The command line knows of this module, and most commands never run a graph.
    import onnxruntime

    try:
        session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelBuildError(f"the graph {path.name} cannot be loaded: {error}") from error
    if [item.name for item in session.get_inputs()] != ["series"]:
        raise ModelBuildError("the graph's one input must be called `series`")

    def run(rows: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, Any]:
        try:
            (found,) = session.run(["embedding"], {"series": rows})
        except Exception as error:
            raise ModelBuildError(f"the graph refuses series of {rows.shape}: {error}") from error
        if found.shape != (len(rows), width) or not np.isfinite(found).all():
            raise ModelBuildError(
                f"the graph gives {found.shape} for {rows.shape}, needed are finite numbers of "
                f"{(len(rows), width)}"
            )
        return np.asarray(found)

    rng = np.random.default_rng(1)
    for length in (SHORTEST, context // 2 + 1, context):
        rows = rng.poisson(3.0, (4, length)).astype(np.float32)
        rows[1], rows[2], rows[3, : length // 2] = 0.0, np.nan, np.nan
        run(rows)
    # A step that moves nothing was not read.
    base = rng.poisson(20.0, (1, context)).astype(np.float32)
    moved = np.repeat(base, 3, axis=0)
    for row, place in enumerate((0, context // 2, context - 1)):
        moved[row, place] += 40.0
    if (np.abs(run(moved) - run(base)).max(1) == 0).any():
        raise ModelBuildError(f"the graph does not read all of the {context} steps it should take")


def _real_export() -> Export:
    try:
        exporter = importlib.import_module(EXPORTER)
    except ImportError as error:
        raise ModelBuildError(
            f"the package {error.name} is missing: install the extra `train` of dayfold where "
            "checkpoints are built (running them needs it no more)"
        ) from error
    made: Export = exporter.export_checkpoint
    return made


def _entry(
    source: str, made: Checkpoint, shipped: ModelEntry, sha256: str, folder: Path
) -> ModelEntry:
    name = re.sub(r"[^a-z0-9.]+", "-", Path(source).name.lower()).strip("-.") or "checkpoint"
    if any(name in (entry.name, entry.index) for entry in load_manifest()):
        name = f"own-{name}"
    local = Path(source).expanduser()
    return replace(
        shipped,
        name=name,
        version=made.revision[:12] or sha256[:12],
        pooling=made.pooling,
        context=made.context,
        file=f"{name}-{sha256[:12]}.onnx",
        sha256=sha256,
        source=str(local.resolve()) if local.exists() else source,
        licence=_licence(local, source),
        card=CARD,
        wheel=None,
        forecast=None,
        folder=folder,
    )


def _licence(local: Path, source: str) -> str:
    """What the checkpoint's own card says; Amazon's Chronos models are under Apache-2.0."""
    card = local / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^license:\s*(\S+)\s*$", text, re.MULTILINE)
        if found:
            return found[1]
    if not local.exists() and source.startswith("amazon/chronos-"):
        return "Apache-2.0"
    return "as its source says"


def _own(folder: Path) -> tuple[ModelEntry, ...]:
    path = operator_manifest(folder)
    return read_manifest(path, folder) if path.exists() else ()


def _write_manifest(folder: Path, entry: ModelEntry | None) -> None:
    """Put `entry`, or nothing, in the place of the operator's time-series encoder."""
    before = _own(folder)
    entries = [old for old in before if old.index != INDEX] + ([entry] if entry else [])
    text = "# Written by `dayfold models build timeseries --checkpoint`.\n"
    for one in entries:
        text += "\n[[model]]\n"
        for key in ("name", "version", "index", "dimension", "pooling", "context", "file"):
            text += f"{key} = {json.dumps(getattr(one, key), ensure_ascii=False)}\n"
        for key in ("sha256", "source", "licence", "card"):
            text += f"{key} = {json.dumps(getattr(one, key), ensure_ascii=False)}\n"
    path = operator_manifest(folder)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    _synced(partial)
    partial.replace(path)
    kept = {one.artefact for one in entries}
    for old in before:
        if old.artefact not in kept:
            old.artefact.unlink(missing_ok=True)


def _synced(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
