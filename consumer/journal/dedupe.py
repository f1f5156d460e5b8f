"""Which events a day already has: exact, and bounded in memory.

The latest digests are a set; older ones are sorted tables (16 bytes each while their segment is
open, mapped from its sidecar after that) behind a Bloom filter. Few are ever looked at, and those leave
the memory again, at the latest with the next segment. Five million events a day cost 40 MB, twelve million 105 MB.
"""

from collections.abc import Sequence

import numpy as np

from consumer.journal.bloom import Bloom
from consumer.journal.idtable import Flags, Ids, IdTable, ids_of
from consumer.wire.identity import DIGEST_BYTES

#: Digests that are kept as a Python set, at about 120 bytes each, before they become a table.
RECENT = 1 << 15

#: So many tables of the same segment are merged into one, as long as that one stays small enough
#: to be sorted in a moment.
MERGED_AT_ONCE = 8
LARGEST_MERGED = RECENT * MERGED_AT_ONCE

#: So few of a batch pass the filter by its mistake: no other will be looked for here soon.
STRAY = 4

#: A batch as large as this pays for taking one more table behind the filter.
WORTH_FILTERING = 64


class DayDedupe:
    """The digests of one day, by segment. Not thread-safe; the journal's lock guards it."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._tables: dict[int, list[IdTable]] = {}
        self._bloom = Bloom()
        # Tables that were loaded and are not in the filter yet: asked directly.
        self._unfiltered: list[IdTable] = []

    @property
    def nbytes(self) -> int:
        """Memory in use, bytes, mapped tables included."""
        tables = sum(table.nbytes for kept in self._tables.values() for table in kept)
        return tables + self._bloom.nbytes + len(self._recent) * 120

    def load(self, number: int, table: IdTable) -> None:
        """Take in the digests of a segment that is on the disk."""
        self._tables.setdefault(number, []).append(table)
        self._unfiltered.append(table)

    def new(self, digests: Sequence[bytes]) -> list[int]:
        """Return the positions of digests that the day does not have; of repeats, the first one.

        Nothing is remembered: that is for `add`, once the events are written. Raises ValueError
        if a digest is not 16 bytes long.
        """
        joined = b"".join(digests)
        if len(joined) != DIGEST_BYTES * len(digests):
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes; see identity_digest()")
        known = self._known(ids_of(joined))
        recent = self._recent
        if known is None and recent.isdisjoint(digests) and len(set(digests)) == len(digests):
            return list(range(len(digests)))
        positions = []
        seen: set[bytes] = set()
        for position, digest in enumerate(digests):
            if digest in recent or digest in seen or (known is not None and known[position]):
                continue
            seen.add(digest)
            positions.append(position)
        return positions

    def add(self, number: int, digests: Sequence[bytes]) -> None:
        """Remember digests that were written to segment `number`, the open one."""
        self._recent.update(digests)
        if len(self._recent) >= RECENT:
            self.settle(number)

    def settle(self, number: int) -> list[IdTable]:
        """Turn the latest digests into a table of segment `number`; return all tables of it."""
        if self._recent:
            table = IdTable.of(ids_of(b"".join(self._recent)))
            self._recent = set()
            self._bloom.add(table.first, table.second)
            tables = self._tables.setdefault(number, [])
            tables.append(table)
            self._merge_small(tables)
        return self.tables_of(number)

    def _merge_small(self, tables: list[IdTable]) -> None:
        """Merge the latest tables if they are many and small: each is asked in turn."""
        small = tables[-MERGED_AT_ONCE:]
        total = sum(len(table) for table in small)
        waiting = any(table is kept for table in small for kept in self._unfiltered)
        if len(small) == MERGED_AT_ONCE and total <= LARGEST_MERGED and not waiting:
            tables[-MERGED_AT_ONCE:] = [IdTable.merged(small)]

    def tables_of(self, number: int) -> list[IdTable]:
        """Return the tables of segment `number`: all its digests, once settled."""
        return list(self._tables.get(number, ()))

    def replace(self, number: int, table: IdTable) -> None:
        """Let the digests of segment `number` be those of `table`: the same ones, mapped.

        What was looked at of mapped tables leaves the memory.
        """
        former = self._tables.get(number, [])
        unfiltered = [kept for kept in self._unfiltered if not any(kept is old for old in former)]
        if len(unfiltered) != len(self._unfiltered):
            unfiltered.append(table)
        self._unfiltered = unfiltered
        self._tables[number] = [table]
        for kept in self._tables.values():
            for looked_at in kept:
                looked_at.leave_memory()

    def _known(self, ids: Ids) -> Flags | None:
        """Which ids are in a table; None if none is."""
        first, second = ids[:, 0], ids[:, 1]
        perhaps = self._bloom.perhaps(first, second)
        for table in self._unfiltered:
            perhaps |= table.contains(ids)
        if self._unfiltered and len(ids) >= WORTH_FILTERING:
            table = self._unfiltered.pop()
            self._bloom.add(table.first, table.second)
            table.leave_memory()
        if not perhaps.any():
            return None
        asked = ids[perhaps]
        found = np.zeros(len(asked), dtype=np.bool_)
        # Repeats are mostly of late: the newest tables first.
        for kept in reversed(self._tables.values()):
            for table in reversed(kept):
                found |= table.contains(asked)
                if len(asked) <= STRAY:
                    table.leave_memory()
                if found.all():
                    break
        known = np.zeros(len(ids), dtype=np.bool_)
        known[perhaps] = found
        return known
