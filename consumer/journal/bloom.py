"""A Bloom filter that grows: says for certain which digests are new.

Each digest sets six bits in each of two 64-bit words. A batch costs one gather: the second word is only
looked at for the few that pass the first. The filter starts small and adds a stage four times as large
whenever the last one is full, so an ordinary day pays for what it holds: 32 bits a digest. A full stage
lets about one new digest in 100,000 through as "perhaps". Each of those is looked for in every table of
the day, and a day of millions has hundreds of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consumer.journal.idtable import Flags, Halves

FIRST_STAGE_DIGESTS = 1 << 18
GROWTH = 4

_DIGESTS_PER_WORD = 2
_BITS = 6
_ONE = np.uint64(1)
#: The two bits that twelve bits of a digest choose: a look at this takes half of the operations.
_TWO = np.arange(1 << 12, dtype=np.uint64)
_TWO_BITS = (_ONE << (_TWO & np.uint64(63))) | (_ONE << (_TWO >> np.uint64(6)))


@dataclass(frozen=True, slots=True)
class _Word:
    """Which bits of a digest choose a word, and two of six bits in it: shifts of its two halves."""

    place: np.uint64
    bits: tuple[np.uint64, ...]


_FIRST = _Word(np.uint64(0), tuple(np.uint64(6 * bit) for bit in range(0, _BITS, 2)))
_SECOND = _Word(np.uint64(32), tuple(np.uint64(28 + 6 * bit) for bit in range(0, _BITS, 2)))


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
            for word in (_FIRST, _SECOND):
                words = _words(first[begin:end], stage, word)
                np.bitwise_or.at(stage, words, _masks(second[begin:end], word))
            self._room -= end - begin
            begin = end

    def perhaps(self, first: Halves, second: Halves) -> Flags:
        """Return which digests may have been added; the others certainly were not."""
        found = np.zeros(len(first), dtype=np.bool_)
        if not self._stages:
            return found
        masks = _masks(second, _FIRST)
        for stage in self._stages:
            passed = np.flatnonzero((stage[_words(first, stage, _FIRST)] & masks) == masks)
            if len(passed):
                again = _masks(second[passed], _SECOND)
                there = stage[_words(first[passed], stage, _SECOND)] & again
                found[passed] |= there == again
        return found


def _words(first: Halves, stage: Halves, word: _Word) -> NDArray[np.int64]:
    # Stages are powers of two.
    return ((first >> word.place) & np.uint64(len(stage) - 1)).astype(np.int64)


def _masks(second: Halves, word: _Word) -> Halves:
    masks: Halves = _two_bits(second, word.bits[0])
    for shift in word.bits[1:]:
        masks |= _two_bits(second, shift)
    return masks


def _two_bits(second: Halves, shift: np.uint64) -> Halves:
    # Below 4,096, so it is the same number signed, which is what an index is.
    return _TWO_BITS[((second >> shift) & np.uint64(len(_TWO) - 1)).view(np.int64)]
