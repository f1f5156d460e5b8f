"""How often each value was seen, for the values that matter, in bounded memory."""

from __future__ import annotations

from embed.rows import JSON

KEEP = 256
PRUNE_AT = 4096
SHOW = 32


class TopCounts:
    """Counts values; exact while there are fewer than 4,096 different ones.

    Beyond that only the 256 most frequent are kept on, ties in the order of the values, and the
    counts of the others go to `others`. So a count is never too high, and all of them together are
    always the number of values seen.
    """

    __slots__ = ("_counts", "others")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.others = 0

    def add(self, value: str, times: int = 1) -> None:
        """Count a value."""
        self._counts[value] = self._counts.get(value, 0) + times
        if len(self._counts) >= PRUNE_AT:
            self._prune()

    def take(self, other: TopCounts) -> None:
        """Add the counts of another."""
        for value, count in other._counts.items():
            self._counts[value] = self._counts.get(value, 0) + count
        self.others += other.others
        if len(self._counts) >= PRUNE_AT:
            self._prune()

    def shown(self, most: int = SHOW) -> dict[str, JSON]:
        """The most frequent values and their counts, most frequent first."""
        return dict(self._ranked()[:most])

    def first(self) -> str:
        """The most frequent value; empty if there is none."""
        ranked = self._ranked()
        return ranked[0][0] if ranked else ""

    def _ranked(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))

    def _prune(self) -> None:
        ranked = self._ranked()
        self._counts = dict(ranked[:KEEP])
        self.others += sum(count for _, count in ranked[KEEP:])
