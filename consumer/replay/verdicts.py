"""Simulated verdicts for recorded flows, which carry none.

**Nothing here was measured by a detector.** A recorded flow says what happened on the network; the
scores, the classification and the category that a detector would have put on it are made up, so
that a replayed event looks like one. They follow what detectors in the field can say, and they are
wrong about as often:

* The classification is ``BENIGN``, ``SUSPICIOUS`` or ``MALICIOUS``; the category ``NORMAL``,
  ``DDOS`` or ``RANSOMWARE``. No detector names a brute force or a port scan, so neither does this.
* About 1 % of benign flows are flagged and about 10 % of attacks are missed.
* Of a flow's label only the severity is used: benign, intrusion or flood. Two classes of the same
  severity get verdicts from the same distribution. A recording without labels is judged by its
  traffic alone.
* The fast detector's score and reason come from the traffic, not from the label.

All draws come from the seed and the row's number: a row gets the same verdict whatever else is
replayed with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.labels import BENIGN, plain_labels
from proto.network_security_pb2 import DetectorSource

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SUSPICIOUS_FROM: Final = 0.55
MALICIOUS_FROM: Final = 0.85
TRIGGERED_FROM: Final = 0.70
DIVERGENT_FROM: Final = 0.30
FALSE_POSITIVES: Final = 0.01
MISSES: Final = 0.10

FLOOD_LABELS: Final = frozenset(
    {"DDoS", "DoS GoldenEye", "DoS Hulk", "DoS Slowhttptest", "DoS Slowloris"}
)

# The columns that the fast detector's rules read. One that is absent switches its rules off.
TRAFFIC_COLUMNS: Final = (
    "flow_duration_microseconds",
    "total_forward_packets",
    "total_backward_packets",
    "total_forward_bytes",
    "total_backward_bytes",
    "syn_flag_count",
    "rst_flag_count",
    "flow_packets_per_second",
)


class Verdict(NamedTuple):
    """What a detector would say about one flow. Scores and confidences run from 0 to 1."""

    overall: float
    fast: float
    ml: float
    divergence: float
    confidence: float
    level1_confidence: float
    ensemble_confidence: float
    classification: str
    category: str
    reason: str
    triggered: bool
    attack: bool
    explain: bool
    review: bool
    source: DetectorSource


def judge(
    rows: NDArray[np.int64],
    traffic: Mapping[str, Floats],
    labels: Sequence[str] | None,
    *,
    seed: int,
) -> list[Verdict]:
    """One verdict for each of ``n`` flows.

    Args:
        rows: int64 (n,), the rows' numbers in the recording.
        traffic: float64 (n,) by column name, NaN where missing; `TRAFFIC_COLUMNS` are read.
        labels: n labels, or None for a recording that has none.
        seed: another seed gives other noise and other mistakes.
    """
    draw = [_uniform(rows, seed, stream) for stream in range(8)]
    hits, reasons = _rules(traffic, len(rows))
    if labels is None:
        attack, flood = hits, np.zeros(len(rows), dtype=np.bool_)
    else:
        named = plain_labels(labels)
        attack = named != BENIGN
        flood = np.isin(named, sorted(FLOOD_LABELS))
    flagged = np.where(attack, draw[0] >= MISSES, draw[0] < FALSE_POSITIVES)

    flagged_ml = np.select(
        [flood, attack], [0.78 + 0.21 * draw[1], 0.58 + 0.38 * draw[1]], 0.56 + 0.25 * draw[1]
    )
    quiet_ml = np.where(attack, 0.2 + 0.3 * draw[1], 0.02 + 0.4 * draw[1] ** 2)
    ml = np.where(flagged, flagged_ml, quiet_ml).round(4)

    triggered = flagged & (hits | (draw[2] < 0.4))
    fast = np.select(
        [triggered, flagged, hits],
        [0.7 + 0.25 * draw[3], 0.1 + 0.5 * draw[3], 0.2 + 0.3 * draw[3]],
        0.3 * draw[3] ** 2,
    ).round(4)
    overall = np.maximum(fast, ml)
    divergence = np.abs(fast - ml).round(4)
    malicious = overall >= MALICIOUS_FROM
    suspicious = (overall >= SUSPICIOUS_FROM) & ~malicious

    bulk = reasons == "large_transfer"
    ransomware = malicious & bulk & (draw[4] < 0.5)
    ddos = ~ransomware & np.select(
        [malicious & flood, malicious, suspicious & flood],
        [draw[4] < 0.9, draw[4] < 0.08, draw[4] < 0.35],
        default=False,
    )
    level1 = np.where(ml >= 0.5, ml, 1.0 - ml)
    columns = (
        overall,
        fast,
        ml,
        divergence,
        np.minimum(fast, ml),
        level1.round(4),
        (level1 * (0.9 + 0.1 * draw[5])).round(4),
        np.select([malicious, suspicious], ["MALICIOUS", "SUSPICIOUS"], "BENIGN"),
        np.select([ransomware, ddos], ["RANSOMWARE", "DDOS"], "NORMAL"),
        np.where(triggered, np.where(hits, reasons, "stat_anomaly"), ""),
        triggered,
        ml >= 0.5,
        (overall >= MALICIOUS_FROM) | (divergence >= DIVERGENT_FROM),
        suspicious & (divergence >= DIVERGENT_FROM),
        _source(triggered, ml >= 0.5, divergence >= DIVERGENT_FROM),
    )
    return list(map(Verdict._make, zip(*(column.tolist() for column in columns), strict=True)))


def _source(triggered: Flags, attack: Flags, divergent: Flags) -> NDArray[np.int64]:
    both = triggered & attack
    return np.select(
        [both & divergent, both, triggered],
        [
            DetectorSource.DETECTOR_SOURCE_DIVERGENCE,
            DetectorSource.DETECTOR_SOURCE_CONSENSUS,
            DetectorSource.DETECTOR_SOURCE_FAST_PRIORITY,
        ],
        DetectorSource.DETECTOR_SOURCE_ML_PRIORITY,
    )


def _rules(traffic: Mapping[str, Floats], count: int) -> tuple[Flags, NDArray[np.str_]]:
    """Which flows a rule in the packet path would notice, and the name of the rule."""
    absent = np.full(count, np.nan)
    duration, forward, backward, sent, returned, syns, resets, rate = (
        traffic.get(name, absent) for name in TRAFFIC_COLUMNS
    )
    # A comparison with NaN is false, so that a missing value never makes a rule hit.
    with np.errstate(invalid="ignore"):
        rules = {
            "large_transfer": (sent + returned) > 1_000_000,
            "syn_without_answer": (syns > 0) & (returned <= 0) & (backward <= 1),
            "reset_connections": (resets > 1) & (forward + backward < 20),
            "slow_request": (duration > 30_000_000) & (rate < 0.3) & (syns > 0),
            "high_packet_rate": (rate > 20_000) & (forward + backward > 10),
        }
    names = np.select(list(rules.values()), list(rules), "")
    return names != "", names


def _uniform(rows: NDArray[np.int64], seed: int, stream: int) -> Floats:
    """Float64 (n,) in [0, 1): the finaliser of SplitMix64 over seed, stream and row.

    Counter-based, so that a row's draw does not depend on how rows are batched or chosen.
    """
    mask = (1 << 64) - 1
    start = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) & mask
    mixed = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
