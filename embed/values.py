"""Texts as numbers below 2**33 and back, for counting: addresses, and a limited number of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IPV4 = 1 << 32
MOST_TEXTS = 65_536

Ints = NDArray[np.int64]


class Values:
    """Gives numbers. An IPv4 address is its own; any other text gets the next one.

    Memory is bounded: texts beyond `most` get no number and are not counted, so that a count is
    never too high.
    """

    def __init__(self, *, most: int = MOST_TEXTS) -> None:
        self._most = most
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []

    def number(self, text: str) -> int:
        """The number of a text that is no address; -1 for one beyond the limit."""
        found = self._numbers.get(text)
        if found is None:
            if len(self._texts) >= self._most:
                return -1
            found = self._numbers[text] = IPV4 + len(self._texts)
            self._texts.append(text)
        return found

    def addresses(self, values: Ints, texts: Sequence[str]) -> Ints:
        """The numbers of addresses, int64 (n,); -1 beyond the limit and where there is none.

        Args:
            values: `embed.distinct.address_value` of each, -1 for none.
            texts: the same addresses.
        """
        found = values.copy()
        for place in np.flatnonzero(values >= IPV4).tolist():
            found[place] = self.number(texts[place])
        return found

    def texts(self, numbers: Ints) -> list[str]:
        """The texts of numbers below 2**32 as addresses, of others as they came."""
        return [
            self._texts[number - IPV4]
            if number >= IPV4
            else f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            for number in numbers.tolist()
        ]
