"""The proof that a chunk reached its encoder whole, and how an encoder's limit is met.

A limit is met with windows: stretches that are no longer than the limit and together touch every
position. Nothing is ever cut off.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from embed.chunk import ChunkSpan
from embed.errors import CoverageError

# What the coverage of each index has to prove, as `show DATE` prints it.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "timeseries": ("events", "minutes"),
    "semantic": ("events", "tokens_in", "tokens_embedded"),
    "attack": ("events",),
}


def check_coverage(
    span: ChunkSpan, coverage: Mapping[str, int], *, index: str | None = None
) -> None:
    """Hold the counts of an embedder against the chunk.

    Events must be the chunk's events, minutes the day's minutes, tokens embedded the tokens that
    went in, and packet events those in flows. With `index` the counts that this index owes must be there.

    Raises:
        CoverageError: a count is missing or does not match; the chunk must not be committed.
    """
    owed = REQUIRED[index] if index is not None else ("events",)
    for name in owed:
        if name not in coverage:
            raise CoverageError(
                f"{span.day} revision {span.revision}: the coverage has no count of {name}; "
                "embed the day again"
            )
    _equal(span, "events", span.events, coverage["events"])
    if "minutes" in coverage:
        _equal(span, "minutes", span.minutes, coverage["minutes"])
    if "tokens_in" in coverage or "tokens_embedded" in coverage:
        _equal(span, "tokens", coverage.get("tokens_in", 0), coverage.get("tokens_embedded", 0))
    if "packet_events" in coverage:
        in_flows = coverage.get("packet_events_in_flows", 0)
        _equal(span, "packet events", coverage["packet_events"], in_flows)


def _equal(span: ChunkSpan, what: str, expected: int, found: int) -> None:
    if expected != found:
        raise CoverageError(
            f"{span.day} revision {span.revision}: {found:,} of {expected:,} {what} reached the "
            "encoder; embed the day again"
        )


def windows(length: int, limit: int, overlap: int) -> list[tuple[int, int]]:
    """Cut `length` positions into half-open windows of at most `limit`, overlapping by `overlap`.

    The last window is moved back so that it is full too. One window if everything fits; none for
    a length of 0.

    Raises:
        ValueError: the limit is not above the overlap.
    """
    if not 0 <= overlap < limit:
        raise ValueError(f"windows of {limit} cannot overlap by {overlap}")
    if length <= 0:
        return []
    if length <= limit:
        return [(0, length)]
    step = limit - overlap
    starts = list(range(0, length - limit, step))
    starts.append(length - limit)
    return [(start, start + limit) for start in starts]


def window_shares(length: int, cuts: list[tuple[int, int]]) -> NDArray[np.float64]:
    """How much of the whole each window stands for, float64 (windows,), summing to 1.

    A position that k windows share counts 1/k in each of them, so that an overlap weighs no more
    than the rest.
    """
    times = np.zeros(length, dtype=np.int64)
    for start, end in cuts:
        times[start:end] += 1
    if length and times.min() == 0:
        raise CoverageError(
            f"windows {cuts} leave {int((times == 0).sum())} of {length} positions out"
        )
    share = 1.0 / np.maximum(times, 1)
    return np.array([share[start:end].sum() for start, end in cuts]) / max(length, 1)


def covered(length: int, cuts: list[tuple[int, int]]) -> int:
    """How many of `length` positions lie in at least one window."""
    seen = np.zeros(length, dtype=bool)
    for start, end in cuts:
        seen[start:end] = True
    return int(seen.sum())
