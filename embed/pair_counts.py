"""How often each group was seen with each value: exact, in bounded memory.

A pair of group and value becomes one 64-bit key. Batches of keys are counted and merged; when too
many different ones are held they go to an unnamed temporary file as a sorted run. At the end the
runs are read side by side, some groups at a time. The same pairs give the same counts however they
come.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

VALUE_BITS = 34
MOST_PAIRS = 500_000

Ints = NDArray[np.int64]
# Gives the texts of different values.
Texts = Callable[[Ints], Sequence[str]]


class Run(NamedTuple):
    """Different keys in order, int64 (n,), and how often each was seen, int64 (n,)."""

    keys: Ints
    counts: Ints


class Top(NamedTuple):
    """The most frequent values of some groups: one entry per group and value, groups in order.

    Attributes:
        groups: int64 (n,).
        values: int64 (n,); within a group the most frequent first.
        counts: int64 (n,).
    """

    groups: Ints
    values: Ints
    counts: Ints


class PairCounts:
    """Counts pairs.

    Args:
        most_pairs: different pairs held in memory before a run is written.
        scratch: folder of the temporary file; the system's if not given.
    """

    def __init__(self, *, most_pairs: int = MOST_PAIRS, scratch: Path | None = None) -> None:
        self._most = most_pairs
        self._scratch = scratch
        self._fresh: list[Run] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._runs: list[tuple[int, int]] = []

    def add(self, groups: Ints, values: Ints) -> None:
        """Count pairs; int64 (n,) each, groups below 2**29, values below 2**34."""
        keys, counts = np.unique(groups << VALUE_BITS | values, return_counts=True)
        self._fresh.append(Run(keys, counts))
        self._held += len(keys)
        if self._held > self._most:
            merged = _merged(self._fresh)
            # Mostly repeats: worth keeping in memory. Mostly new: onto the disk.
            if len(merged.keys) > self._most // 2:
                self._spill(merged)
            else:
                self._fresh, self._held = [merged], len(merged.keys)

    def top(self, most: int, texts: Texts) -> Iterator[Top]:
        """The `most` most frequent values of each group; of equals, the first in text order.

        Args:
            most: values per group.
            texts: gives the texts of different values.
        """
        runs = [_merged(self._fresh), *self._spilled()]
        groups = 1 + max(
            (int(run.keys[-1]) >> VALUE_BITS for run in runs if len(run.keys)), default=-1
        )
        edges = np.arange(groups + 1, dtype=np.int64) << VALUE_BITS
        bounds = [np.searchsorted(run.keys, edges) for run in runs]
        sizes = np.sum([np.diff(bound) for bound in bounds], axis=0)
        for start, stop in _stretches(sizes, self._most):
            parts = [
                Run(run.keys[bound[start] : bound[stop]], run.counts[bound[start] : bound[stop]])
                for run, bound in zip(runs, bounds, strict=True)
            ]
            merged = _merged(parts)
            if len(merged.keys):
                yield _top(merged, most, texts)

    def close(self) -> None:
        """Give the temporary file back; may be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._runs, self._fresh, self._held = [], [], 0

    def _spill(self, run: Run) -> None:
        if self._file is None:
            # Closed by close(): it lives as long as the day does.
            self._file = tempfile.TemporaryFile(dir=self._scratch, prefix="pairs-")  # noqa: SIM115 - closed in `close`
        start = sum(2 * length for _, length in self._runs)
        self._file.write(run.keys.tobytes())
        self._file.write(run.counts.tobytes())
        self._runs.append((start, len(run.keys)))
        self._fresh, self._held = [], 0

    def _spilled(self) -> list[Run]:
        if self._file is None:
            return []
        self._file.flush()
        whole = np.memmap(self._file, dtype=np.int64, mode="r")
        return [
            Run(whole[start : start + length], whole[start + length : start + 2 * length])
            for start, length in self._runs
        ]


def _merged(runs: Sequence[Run]) -> Run:
    if len(runs) == 1:
        return runs[0]
    if not runs:
        return Run(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    keys, places = np.unique(np.concatenate([run.keys for run in runs]), return_inverse=True)
    counts = np.zeros(len(keys), dtype=np.int64)
    np.add.at(counts, places, np.concatenate([run.counts for run in runs]))
    return Run(keys, counts)


def _stretches(sizes: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Cut groups into stretches of at most `most` pairs; a group is never cut."""
    start = held = 0
    for group, size in enumerate(sizes.tolist()):
        if held and held + size > most:
            yield start, group
            start, held = group, 0
        held += size
    if start < len(sizes):
        yield start, len(sizes)


def _top(run: Run, most: int, texts: Texts) -> Top:
    groups, values = run.keys >> VALUE_BITS, run.keys & ((1 << VALUE_BITS) - 1)
    different, places = np.unique(values, return_inverse=True)
    words = texts(different)
    rank = np.empty(len(different), dtype=np.int64)
    rank[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
    order = np.lexsort((rank[places], -run.counts, groups))
    groups = groups[order]
    firsts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    place_in_group = np.arange(len(groups)) - np.repeat(firsts, np.diff(np.r_[firsts, len(groups)]))
    kept = order[place_in_group < most]
    return Top(run.keys[kept] >> VALUE_BITS, values[kept], run.counts[kept])
