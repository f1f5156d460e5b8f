"""A fingerprint of everything that fed an index: the proof that no event was left out.

Each event becomes a row of 64-bit numbers, each row one hash, and the hashes are added up modulo
2**64. The order of the events and the way they are cut into batches do not matter; any value of
any event does. It stands in the facts of the day's row, beside vectors that cannot show as much:
float32 does not resolve one event among millions, and encoders limit outliers on purpose. It is no
protection against forgery.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Fingerprint:
    """Adds up the hashes of a chunk's events."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, rows: NDArray[np.uint64]) -> None:
        """Add events, uint64 (n, values); those of one kind with the same number of values."""
        self._sum = (self._sum + row_hash_sum(rows)) & _MASK

    def add_floats(self, rows: NDArray[np.float64]) -> None:
        """Add events, float64 (n, values). All NaN are alike, and so are the two zeros."""
        clean = np.where(np.isnan(rows), np.nan, rows) + 0.0
        self.add(np.ascontiguousarray(clean).view(np.uint64))

    def __str__(self) -> str:
        return f"{self._sum:016x}"


def row_hash_sum(rows: NDArray[np.uint64]) -> int:
    """Sum of one hash per row, below 2**64.

    Each value is mixed with a constant of its column by the finaliser of MurmurHash3 (A. Appleby),
    the values of a row are added and mixed once more.
    """
    columns = np.array(
        [_GOLDEN * (2 * place + 1) & _MASK for place in range(rows.shape[1])], dtype=np.uint64
    )
    values = _mix(rows ^ columns)
    mixed = _mix(values.sum(axis=1, dtype=np.uint64))
    return int(mixed.sum(dtype=np.uint64))


@lru_cache(maxsize=65536)
def text_number(text: str) -> int:
    """A number below 2**63 for a text, the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # Overflow is the point; numpy wraps arrays of unsigned integers without a word.
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))
