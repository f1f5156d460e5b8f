"""How far each log has been followed, so that a restart neither loses nor repeats a line.

A file is known by its device and inode, because logs are renamed. Beside the offset stands a digest
of the last line before it: if the file has another line there, it was truncated and written anew,
and is read from its beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import structlog

from consumer.journal.durable import (
    checked_json,
    fsync_folder,
    make_folder,
    parse_checked_json,
    replace_file,
)

log = structlog.get_logger("watch")

FORMAT: Final = "dayfold-positions-1"


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading goes on in one file.

    Attributes:
        name: the file's name when it was last seen; for people.
        offset: bytes that are done; a line ends there, or it is 0.
        last_bytes: length of the last line before the offset, with its newline.
        last_digest: of that line (`line_digest`).
    """

    name: str
    device: int
    inode: int
    offset: int
    last_bytes: int
    last_digest: str


def line_digest(line: bytes) -> str:
    """BLAKE2b-128 of a line with its newline, hex."""
    return hashlib.blake2b(line, digest_size=16).hexdigest()


def read_positions(path: Path) -> list[Position]:
    """The positions that were written; none if there is no such file, or it is damaged.

    Then every log is read from its beginning, and what was journaled before counts once. Raises
    OSError if it is there and cannot be read.
    """
    try:
        document = parse_checked_json(path.read_bytes())
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}")
        return [Position(**entry) for entry in document["files"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        log.warning("positions are damaged: logs are read again", file=str(path), error=str(error))
        return []


def write_positions(path: Path, positions: Iterable[Position]) -> None:
    """Replace the positions, durably. Raises OSError."""
    if make_folder(path.parent):
        fsync_folder(path.parent.parent)
    document = {"format": FORMAT, "files": [asdict(position) for position in positions]}
    replace_file(path, checked_json(document))
