"""The files of the approximate layer of an index, beside its shards.

Below ``index/<name>/approximate/``::

    approximate.json                    what was measured, and the SHA-256 of every file here
    trained-1a2b3c4d5e6f.faiss          the trained index, without rows
    2017-07-04-r0001-1a2b3c4d5e6f.codes codes and checksums of the rows of one shard

Everything here can be made again from the shards, so nothing of it is ever repaired: what fails
its checksum, or belongs to another shard than the manifest names, is left aside by readers and made
anew by `index.tending`. Files are written, synced and renamed like all others of an index; the
list goes last.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from index import lazy_faiss as faiss
from index.approximate import Codes, Sums, Trained
from index.durable_file import DurableFile, write_durably
from index.store import Shard

FOLDER = "approximate"
LIST = "approximate.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class CodeFile:
    """The codes of one shard.

    Attributes:
        file: its name.
        sha256: of its bytes.
        shard_sha256: of the shard that was encoded.
    """

    file: str
    sha256: str
    shard_sha256: str


@dataclass(frozen=True, slots=True)
class CodeList:
    """What `approximate.json` says; see `Trained` for the figures.

    Attributes:
        codes: by name of the shard's file.
    """

    trained_file: str
    trained_sha256: str
    rows: int
    lists_searched: int
    recall_at_10: float
    measured_rows: int
    sample: int
    codes: Mapping[str, CodeFile] = field(default_factory=lambda: MappingProxyType({}))


def read_list(folder: Path) -> CodeList | None:
    """The list of the index in `folder`; None if there is none, or none that can be trusted."""
    try:
        content = (folder / FOLDER / LIST).read_bytes()
        facts = json.loads(content)
        codes = {name: CodeFile(**entry) for name, entry in facts.pop("codes").items()}
        del facts["checksum"], facts["format"]
        found = CodeList(**facts, codes=MappingProxyType(codes))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None
    return found if content == _rendered(found) else None


def write_list(folder: Path, listed: CodeList) -> None:
    """Make a list durable and the one that counts. Raises StoreWriteError."""
    write_durably(folder / FOLDER / LIST, _rendered(listed))


def write_trained(folder: Path, index: Any) -> tuple[str, str]:
    """Make a trained index durable; gives its file's name and SHA-256. Raises StoreWriteError."""
    content = faiss.serialize_index(index).tobytes()
    name = f"trained-{hashlib.sha256(content).hexdigest()[:12]}.faiss"
    return name, write_durably(folder / FOLDER / name, content)


def read_trained(folder: Path, listed: CodeList) -> Trained | None:
    """The trained index of a list; None if its file cannot be trusted."""
    content = _checked(folder / FOLDER / listed.trained_file, listed.trained_sha256)
    if content is None:
        return None
    return Trained(
        faiss.deserialize_index(np.frombuffer(content, np.uint8)),
        listed.trained_sha256,
        listed.rows,
        listed.lists_searched,
        listed.recall_at_10,
        listed.measured_rows,
        listed.sample,
    )


def write_codes(
    folder: Path, shard: Shard, trained_sha256: str, codes: Codes, sums: Sums
) -> CodeFile:
    """Make the codes of a shard durable. Raises StoreWriteError."""
    stem = shard.file.removesuffix(".faiss")
    name = f"{stem}-{trained_sha256[:12]}.codes"
    with DurableFile(folder / FOLDER / name) as file:
        file.write(np.ascontiguousarray(codes).data)
        file.write(np.ascontiguousarray(sums, "<u4").data)
        return CodeFile(name, file.sha256(), shard.sha256)


def read_codes(
    folder: Path, listed: CodeList, shard: Shard, width: int
) -> tuple[Codes, Sums] | None:
    """Codes (n, width) and checksums (n,) of a shard; None if they are to be made again."""
    entry = listed.codes.get(shard.file)
    if entry is None or entry.shard_sha256 != shard.sha256:
        return None
    content = _checked(folder / FOLDER / entry.file, entry.sha256)
    if content is None or len(content) != shard.rows * (width + 4):
        return None
    codes = np.frombuffer(content, np.uint8, shard.rows * width).reshape(shard.rows, width)
    return codes, np.frombuffer(content, "<u4", offset=shard.rows * width)


def expect_codes(folder: Path, listed: CodeList, shard: Shard) -> None:
    """Let the disk begin to read the codes of a shard, if there are any, while others are added."""
    entry = listed.codes.get(shard.file)
    if entry is None:
        return
    with suppress(OSError):
        handle = os.open(folder / FOLDER / entry.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)


def damaged(folder: Path, shards: Mapping[Any, Shard]) -> list[tuple[str, str]]:
    """What of the approximate layer cannot be trusted, as (file, detail); empty if there is none."""
    if not (folder / FOLDER).is_dir():
        return []
    listed = read_list(folder)
    if listed is None:
        return [(f"{FOLDER}/{LIST}", "is missing or fails its checksum")]
    held = {shard.file for shard in shards.values()}
    expected = {listed.trained_file: listed.trained_sha256}
    # Codes of a shard that has gone since go at the next commit.
    expected |= {c.file: c.sha256 for name, c in listed.codes.items() if name in held}
    return [
        (f"{FOLDER}/{name}", "is missing or fails its checksum")
        for name, sha256 in expected.items()
        if _checked(folder / FOLDER / name, sha256) is None
    ]


def _checked(path: Path, sha256: str) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


def _rendered(listed: CodeList) -> bytes:
    facts: dict[str, Any] = {
        "format": FORMAT,
        "trained_file": listed.trained_file,
        "trained_sha256": listed.trained_sha256,
        "rows": listed.rows,
        "lists_searched": listed.lists_searched,
        "recall_at_10": listed.recall_at_10,
        "measured_rows": listed.measured_rows,
        "sample": listed.sample,
        "codes": {
            name: {"file": c.file, "sha256": c.sha256, "shard_sha256": c.shard_sha256}
            for name, c in listed.codes.items()
        },
    }
    facts["checksum"] = hashlib.sha256(_canonical(facts)).hexdigest()
    return _canonical(facts)


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()
