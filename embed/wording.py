"""Numbers and free text in meaningful words, in steps coarse enough that equal things read equal.

Every scale is a list of upper edges and one more word than edges; a missing value has no word.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MISSING_STEP = -1


class Scale(NamedTuple):
    """Words for ranges of a number: `words[i]` holds below `edges[i]`, the last one above all."""

    edges: tuple[float, ...]
    words: tuple[str, ...]

    def steps(self, values: NDArray[np.float64]) -> list[int]:
        """The step of each value; `MISSING_STEP` for NaN."""
        steps = np.searchsorted(np.asarray(self.edges), values, side="right")
        found: list[int] = np.where(np.isnan(values), MISSING_STEP, steps).tolist()
        return found

    def word(self, step: int) -> str:
        """The word of a step; empty for a missing value."""
        return "" if step < 0 else self.words[step]


KB = 1000.0
SECOND = 1e6

# Payload of one direction, bytes.
VOLUME = Scale(
    (1.0, 1 * KB, 100 * KB, 1e6, 1e9),
    ("no", "little", "some", "a lot of", "megabytes of", "gigabytes of"),
)
# Duration of a flow, microseconds.
DURATION = Scale(
    (1 * SECOND, 60 * SECOND, 600 * SECOND),
    (
        "brief (under a second)",
        "lasting seconds",
        "long (stays open for minutes)",
        "very long (stays open for tens of minutes or more)",
    ),
)
# Packets of both directions.
PACKETS = Scale(
    (30, 300, 1_000),
    ("few packets", "dozens of packets", "hundreds of packets", "thousands of packets"),
)
# Packets per second; only the top is worth a word.
PACE = Scale((1_000.0,), ("", "at a very high rate"))
SCORE = Scale((0.3, 0.7), ("low", "moderate", "high"))
# Quarter of the local day.
TIME_OF_DAY = ("at night", "in the morning", "in the afternoon", "in the evening")

_ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+]?\b(?:0x[0-9a-f]+|\d+(?:[.,]\d+)*(?:e[-+]?\d+)?)\s*%?", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_GAPS = re.compile(r"[\s=<>|/\\;:,.()\[\]{}\"'-]+")

CATEGORIES = {
    "ddos": "DDoS",
    "dos": "DoS",
    "ransomware": "ransomware",
    "normal": "",
    "benign": "",
    "none": "",
    "unknown": "",
}
# Of codes like STAT_ANOMALY.
ABBREVIATIONS = {
    "auth": "authentication",
    "conn": "connection",
    "conns": "connections",
    "dst": "destination",
    "exfil": "exfiltration",
    "pkt": "packet",
    "pkts": "packets",
    "proto": "protocol",
    "recon": "reconnaissance",
    "src": "source",
    "stat": "statistical",
}


@lru_cache(maxsize=8192)
def plain(text: str) -> str:
    """Free text of a detector as plain lower-case words, without numbers and addresses.

    `SYN_FLOOD: rate=1523.2/s from 10.0.0.7` becomes `syn flood rate s from an address`. Nothing else
    is left out, however long the text is; a number would make every event a sentence of its own.
    """
    text = unicodedata.normalize("NFKC", text)
    text = "".join(" " if unicodedata.category(c).startswith("C") else c for c in text)
    text = _ADDRESS.sub(" an address ", text).replace("_", " ")
    text = _NUMBER.sub(" ", _CAMEL.sub(" ", text))
    return _GAPS.sub(" ", text).strip().lower()


@lru_cache(maxsize=1024)
def category_words(category: str) -> str:
    """A threat category in words; empty for one that says nothing."""
    words = plain(category)
    return CATEGORIES.get(words, words)


@lru_cache(maxsize=8192)
def reason_words(reason: str) -> str:
    """A detector's reason or flag in whole words: `STAT_ANOMALY` is `statistical anomaly`."""
    return " ".join(ABBREVIATIONS.get(word, word) for word in plain(reason).split())


def times_of_day(offsets_ns: NDArray[np.int64], length_ns: int) -> NDArray[np.int64]:
    """The quarter of the day, 0 to 3, of moments `offsets_ns` after local midnight, int64 (n,)."""
    quarters: NDArray[np.int64] = np.clip(4 * offsets_ns // length_ns, 0, 3)
    return quarters
