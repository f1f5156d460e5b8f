"""A Bloom filter that grows: says for certain which digests are new.

Each digest sets six bits of one 64-bit word, so a batch costs one gather. The filter starts small
and adds a stage four times as large whenever the last one is full, so an ordinary day pays for
what it holds: 16 bits a digest. A full stage lets 0.3 % of new digests through as "perhaps".
"""

import numpy as np
from numpy.typing import NDArray

from consumer.journal.idtable import Flags, Halves

FIRST_STAGE_DIGESTS = 1 << 18
GROWTH = 4

_DIGESTS_PER_WORD = 4
_BITS = 6

_SIX_BITS = np.uint64(63)
_ONE = np.uint64(1)


class Bloom:
    """Digests go in as their two halves, uint64 (n,). Not thread-safe."""

    def __init__(self) -> None:
        self._stages: list[Halves] = []
        self._capacity = FIRST_STAGE_DIGESTS // GROWTH
        self._room = 0

    @property
    def nbytes(self) -> int:
        """Memory in use, bytes."""
        return sum(stage.nbytes for stage in self._stages)

    def add(self, first: Halves, second: Halves) -> None:
        """Remember digests."""
        begin = 0
        while begin < len(first):
            if not self._room:
                self._capacity *= GROWTH
                self._room = self._capacity
                self._stages.append(np.zeros(self._capacity // _DIGESTS_PER_WORD, np.uint64))
            end = min(len(first), begin + self._room)
            stage = self._stages[-1]
            np.bitwise_or.at(stage, _words(first[begin:end], stage), _masks(second[begin:end]))
            self._room -= end - begin
            begin = end

    def perhaps(self, first: Halves, second: Halves) -> Flags:
        """Return which digests may have been added; the others certainly were not."""
        found = np.zeros(len(first), dtype=np.bool_)
        if self._stages:
            masks = _masks(second)
            for stage in self._stages:
                found |= (stage[_words(first, stage)] & masks) == masks
        return found


def _words(first: Halves, stage: Halves) -> NDArray[np.int64]:
    # Stages are powers of two. The high bits would do as well; tables are sorted by them.
    return (first & np.uint64(len(stage) - 1)).astype(np.int64)


def _masks(second: Halves) -> Halves:
    masks = np.zeros(len(second), dtype=np.uint64)
    for bit in range(_BITS):
        masks |= _ONE << ((second >> np.uint64(6 * bit)) & _SIX_BITS)
    return masks
