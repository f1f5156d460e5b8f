"""How many different values each minute of a day saw: exact, in bounded memory.

Pairs of minute and value become 64-bit keys. Keys are collected, made unique, and written to an
unnamed temporary file as sorted runs when there are too many; at the end the runs are counted
minute by minute. IPv4 addresses and ports are their own numbers; anything else is hashed to 52
bits, where two values of one minute meet with a chance below one in a billion for a thousand of
them.
"""

from __future__ import annotations

import hashlib
import tempfile
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

VALUE_BITS = 53
HASHED = 1 << 52
MOST_KEYS = 1_000_000

Keys = NDArray[np.uint64]


@lru_cache(maxsize=65536)
def address_value(address: str) -> int:
    """A number below 2**53 for an address: itself for IPv4, a hash for anything else."""
    try:
        parsed = ip_address(address)
    except ValueError:
        parsed = None
    if isinstance(parsed, IPv4Address):
        return int(parsed)
    text = address if parsed is None else parsed.compressed
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 12 | HASHED


class DistinctPerMinute:
    """Counts different values per minute.

    Args:
        minutes: minutes of the day.
        most_keys: keys held in memory before a run is written.
        scratch: folder of the temporary file; the system's if not given.
    """

    def __init__(
        self, minutes: int, *, most_keys: int = MOST_KEYS, scratch: Path | None = None
    ) -> None:
        self._minutes = minutes
        self._most = most_keys
        self._scratch = scratch
        self._fresh: list[Keys] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._runs: list[tuple[int, int]] = []

    def add(self, minutes: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        """Note values, each below 2**53, in their minutes; both int64 (n,)."""
        keys = minutes.astype(np.uint64) << np.uint64(VALUE_BITS) | values.astype(np.uint64)
        self._fresh.append(np.unique(keys))
        self._held += len(self._fresh[-1])
        if self._held > self._most:
            merged = self._merge()
            # Mostly repeats: worth keeping in memory. Mostly new: onto the disk.
            if len(merged) > self._most // 2:
                self._spill(merged)
            else:
                self._fresh, self._held = [merged], len(merged)

    def counts(self) -> NDArray[np.int64]:
        """How many different values each minute saw, int64 (minutes,)."""
        runs = [self._merge(), *self._spilled()]
        edges = np.arange(self._minutes + 1, dtype=np.uint64) << np.uint64(VALUE_BITS)
        bounds = [np.searchsorted(run, edges) for run in runs]
        if len(runs) == 1:
            single: NDArray[np.int64] = np.diff(bounds[0]).astype(np.int64)
            return single
        found = np.zeros(self._minutes, dtype=np.int64)
        for minute in range(self._minutes):
            parts = [
                run[cut[minute] : cut[minute + 1]] for run, cut in zip(runs, bounds, strict=True)
            ]
            found[minute] = len(np.unique(np.concatenate(parts)))
        return found

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._runs = []

    def _merge(self) -> Keys:
        if not self._fresh:
            return np.zeros(0, dtype=np.uint64)
        return np.unique(np.concatenate(self._fresh))

    def _spill(self, keys: Keys) -> None:
        if self._file is None:
            # Closed by close(): it lives as long as the day does.
            self._file = tempfile.TemporaryFile(dir=self._scratch, prefix="distinct-")  # noqa: SIM115 - closed in `close`
        start = self._runs[-1][1] if self._runs else 0
        self._file.write(keys.tobytes())
        self._runs.append((start, start + len(keys)))
        self._fresh, self._held = [], 0

    def _spilled(self) -> list[Keys]:
        if self._file is None:
            return []
        self._file.flush()
        whole = np.memmap(self._file, dtype=np.uint64, mode="r")
        return [whole[start:stop] for start, stop in self._runs]
