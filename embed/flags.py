"""Which events the detector flagged: one predicate, used by all three embedders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embed.features import BOUNDS, COLUMN
from proto.network_security_pb2 import NetworkSecurityEvent

SCORE = 0.70
UNREMARKABLE = frozenset({"", "BENIGN", "NORMAL"})

_LOWEST, _HIGHEST = BOUNDS["unit"]
_SCORE, _TRIGGERED = COLUMN["overall_threat_score"], COLUMN["fast_detector_triggered"]


def flagged(classifications: Sequence[str], features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each event was flagged, bool (n,), from its final classification and its features.

    An event is flagged when its final classification is neither empty nor BENIGN nor NORMAL, or
    its overall threat score is 0.70 or more (from there detectors log an event), or the fast
    detector fired. A score that is missing does not flag.
    """
    judged = np.array([_judged(text) for text in classifications], dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.bool_] = (
            judged | (features[:, _SCORE] >= SCORE) | (features[:, _TRIGGERED] >= 1.0)
        )
    return found


def alarm(event: NetworkSecurityEvent) -> tuple[bool, float]:
    """How much an event alarmed the detector, to be compared: whether it is flagged, then its score.

    The same predicate for one event. A score that is missing or impossible counts below any other.
    """
    score = event.overall_threat_score
    if not _LOWEST <= score <= _HIGHEST:
        score = -1.0
    judged = _judged(event.final_classification)
    return judged or score >= SCORE or event.fast_detector_triggered, score


@lru_cache(maxsize=1024)
def _judged(classification: str) -> bool:
    return classification.strip().upper() not in UNREMARKABLE
