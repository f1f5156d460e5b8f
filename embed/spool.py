"""Rows on their way to an index, kept in unnamed temporary files until the day's row is known.

Row 0 of an index is the day's, which can only be made when all others are; a day with millions of
flagged events does not fit into memory meanwhile.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from embed.rows import RowBlock, RowFacts, Vectors

BLOCK = 1024


class RowSpool:
    """Takes rows, gives them back once in the same order, in blocks of at most 1,024.

    Args:
        dimension: width of the vectors.
        scratch: folder of the temporary files; the system's if not given.

    Attributes:
        weight: how many events stand behind the rows taken so far.
    """

    def __init__(self, dimension: int, *, scratch: Path | None = None) -> None:
        self._dimension = dimension
        # Both are closed by close(): they live as long as the day does.
        self._vectors = tempfile.TemporaryFile(dir=scratch, prefix="vectors-")  # noqa: SIM115 - closed in `close`
        self._facts = tempfile.TemporaryFile("w+", dir=scratch, prefix="facts-", encoding="utf-8")  # noqa: SIM115 - closed in `close`
        self._rows = 0
        self.weight = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, vectors: Vectors, facts: Sequence[RowFacts]) -> None:
        """Append rows; vectors is float32 (n, d), facts the n facts."""
        self._vectors.write(np.ascontiguousarray(vectors, dtype=np.float32).tobytes())
        for fact in facts:
            plain = [
                fact.kind,
                fact.label,
                fact.weight,
                fact.first_ns,
                fact.last_ns,
                fact.detail,
            ]
            # ASCII escapes keep lone surrogates and line ends out of the file.
            self._facts.write(json.dumps(plain, ensure_ascii=True) + "\n")
        self._rows += len(facts)
        self.weight += sum(fact.weight for fact in facts)

    def blocks(self) -> Iterator[RowBlock]:
        """All rows in order. Closes the spool at the end."""
        self._vectors.seek(0)
        self._facts.seek(0)
        left = self._rows
        while left:
            size = min(left, BLOCK)
            raw = self._vectors.read(size * self._dimension * 4)
            vectors = np.frombuffer(raw, dtype=np.float32).reshape(size, self._dimension)
            yield RowBlock(
                vectors, [RowFacts(*json.loads(self._facts.readline())) for _ in range(size)]
            )
            left -= size
        self.close()

    def close(self) -> None:
        """Give the files back; may be called twice."""
        self._vectors.close()
        self._facts.close()
