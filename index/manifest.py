"""The manifest: what an index holds at one generation, and the pointer to the one that counts.

``manifest-00000012.json`` lists every shard with its checksum. ``CURRENT`` names the generation in
force and the SHA-256 of its manifest; renaming a new `CURRENT` over the old one is the moment of a
commit. Without it a lost newest manifest would look like an older, complete index.

Both are rendered in one canonical way and read by comparing bytes, so any altered bit shows.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from index.durable_file import write_durably
from index.errors import StoreCorruptError, StoreMissingError
from index.shards import SHARD_ENDING, SHARD_FOLDER
from index.store import ModelIdentity, Shard

FORMAT = 1
CURRENT = "CURRENT"
_STALE_READS = 5
_MANIFEST_NAME = re.compile(r"^manifest-(\d{8,})\.json$")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation of an index."""

    index: str
    generation: int
    dimension: int
    model: ModelIdentity
    shards: Mapping[date, Shard] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards.values())

    def files(self) -> set[str]:
        """Names of the shard files."""
        return {shard.file for shard in self.shards.values()}

    def following(self, shards: Mapping[date, Shard]) -> "Manifest":
        """The next generation, with these shards."""
        ordered = MappingProxyType({day: shards[day] for day in sorted(shards)})
        return Manifest(self.index, self.generation + 1, self.dimension, self.model, ordered)


def manifest_name(generation: int) -> str:
    """File name of a generation."""
    return f"manifest-{generation:08d}.json"


def manifest_generations(folder: Path) -> list[int]:
    """Generations whose manifests lie in `folder`, oldest first."""
    return sorted(
        int(found[1]) for path in folder.iterdir() if (found := _MANIFEST_NAME.match(path.name))
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make `manifest` durable, then make it the one in force.

    Raises:
        StoreWriteError: one of the steps failed; the old or the new generation is in force.
    """
    content = render_manifest(manifest)
    digest = write_durably(folder / manifest_name(manifest.generation), content)
    write_durably(folder / CURRENT, _render_current(manifest.generation, digest))


def read_current(folder: Path, index: str) -> tuple[int, str]:
    """Generation in force and the SHA-256 of its manifest.

    Raises:
        StoreMissingError: the folder holds no index.
        StoreCorruptError: `CURRENT` is damaged, or missing beside files of an index.
    """
    try:
        content = (folder / CURRENT).read_bytes()
    except FileNotFoundError:
        if unfinished(folder):
            raise StoreMissingError(
                f"there is no index {index} in {folder} yet; it is made when the service starts."
            ) from None
        raise StoreCorruptError(index, CURRENT, "is missing") from None
    except OSError as error:
        raise StoreCorruptError(index, CURRENT, f"cannot be read: {error.strerror}") from error
    try:
        facts = json.loads(content)
        generation, digest = int(facts["generation"]), str(facts["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreCorruptError(index, CURRENT, "is damaged") from error
    if content != _render_current(generation, digest):
        raise StoreCorruptError(index, CURRENT, "is damaged")
    return generation, digest


def unfinished(folder: Path) -> bool:
    """Whether `folder` holds no more than a first open that was cut short leaves behind."""
    if not folder.exists():
        return True
    if any((folder / SHARD_FOLDER).glob(f"*{SHARD_ENDING}")):
        return False
    return manifest_generations(folder) in ([], [1])


def read_manifest(folder: Path, index: str) -> Manifest:
    """The manifest in force, checked against `CURRENT` and its own checksum.

    Raises:
        StoreMissingError: the folder holds no index.
        StoreCorruptError: manifest or `CURRENT` is damaged or missing.
    """
    generation, digest = read_current(folder, index)
    for _ in range(_STALE_READS):
        try:
            return read_generation(folder, index, generation, digest)
        except StoreCorruptError:
            # Two commits since `CURRENT` was read have removed what it named.
            newer = read_current(folder, index)
            if newer == (generation, digest):
                raise
            generation, digest = newer
    return read_generation(folder, index, generation, digest)


def read_generation(
    folder: Path, index: str, generation: int, digest: str | None = None
) -> Manifest:
    """The manifest of one generation, checked.

    Args:
        folder: the folder of the index.
        index: name the manifest must carry.
        generation: which one.
        digest: SHA-256 of the file as `CURRENT` has it; None to check only its own checksum.

    Raises:
        StoreCorruptError: missing, unreadable or altered.
    """
    name = manifest_name(generation)
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError:
        raise StoreCorruptError(index, name, "is missing") from None
    except OSError as error:
        raise StoreCorruptError(index, name, f"cannot be read: {error.strerror}") from error
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise StoreCorruptError(index, name, f"fails its checksum {digest[:12]}")
    try:
        manifest = _parse(json.loads(content))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreCorruptError(index, name, "is damaged") from error
    if content != render_manifest(manifest):
        raise StoreCorruptError(index, name, "fails its own checksum")
    if (manifest.index, manifest.generation) != (index, generation):
        raise StoreCorruptError(
            index, name, f"belongs to {manifest.index}, generation {manifest.generation}"
        )
    return manifest


def render_manifest(manifest: Manifest) -> bytes:
    """The one way a manifest is written. `checksum` is the SHA-256 of the text without it."""
    facts: dict[str, Any] = {
        "dimension": manifest.dimension,
        "format": FORMAT,
        "generation": manifest.generation,
        "index": manifest.index,
        "model": {"name": manifest.model.name, "sha256": manifest.model.sha256},
        "shards": [
            {
                "bytes": shard.size,
                "day": shard.day.isoformat(),
                "file": shard.file,
                "revision": shard.revision,
                "rows": shard.rows,
                "sha256": shard.sha256,
            }
            for shard in manifest.shards.values()
        ],
    }
    facts["checksum"] = hashlib.sha256(_canonical(facts)).hexdigest()
    return _canonical(facts)


def _parse(facts: Any) -> Manifest:
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']!r} where {FORMAT} is known")
    shards = [
        Shard(
            day=date.fromisoformat(entry["day"]),
            revision=int(entry["revision"]),
            rows=int(entry["rows"]),
            file=str(entry["file"]),
            size=int(entry["bytes"]),
            sha256=str(entry["sha256"]),
        )
        for entry in facts["shards"]
    ]
    return Manifest(
        index=str(facts["index"]),
        generation=int(facts["generation"]),
        dimension=int(facts["dimension"]),
        model=ModelIdentity(str(facts["model"]["name"]), str(facts["model"]["sha256"])),
        shards=MappingProxyType({shard.day: shard for shard in shards}),
    )


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()


def _render_current(generation: int, digest: str) -> bytes:
    return _canonical({"generation": generation, "sha256": digest})
