"""Which field of an event feeds which index: what may not be changed without a row changing.

`FIELDS_FED` names every path that an index reads and how a change of it shows:

* ``exact``: any change changes a row: a vector where float32 resolves it, and in any case the
  fingerprint in the facts of the day's row (`embed.fingerprint`).
* ``steps``: the description speaks of it in steps or words; a change within a step, or of a number
  inside a free text, reads equal and is meant to.

Fields that are not named feed no index: the identity of an event (`event_id`, `originating_node_id`:
they are in the facts), the state of the pipeline and of the sensor (`capturing_node`,
`pipeline_tracking`, `time_window`), work of others on the event (`rag_analysis`, `human_review`
beyond its request), and per-model details that the verdict sums up. The journal keeps them all.

Packet events feed the flow that they are assembled into (`embed.flows`). There the fingerprint of
every index also covers all their bytes and their times, so any change of any of them shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from models.manifest import load_features

How: TypeAlias = Literal["exact", "steps"]

# Not a path of the message: the time that admission settled on.
TIME = "(effective time)"

_TIMESERIES: dict[str, How] = dict.fromkeys(
    (
        "network_features.source_ip",
        "network_features.destination_port",
        "network_features.total_forward_bytes",
        "network_features.total_backward_bytes",
        "network_features.total_forward_packets",
        "network_features.total_backward_packets",
        "overall_threat_score",
    ),
    "exact",
)
# Whole minutes, and whether an event was flagged.
_TIMESERIES |= dict.fromkeys((TIME, "final_classification", "fast_detector_triggered"), "steps")

_SEMANTIC: dict[str, How] = dict.fromkeys(
    (
        TIME,
        "network_features.source_ip",
        "network_features.destination_ip",
        "network_features.destination_port",
        "network_features.total_forward_bytes",
        "network_features.total_backward_bytes",
        "network_features.total_forward_packets",
        "network_features.total_backward_packets",
        "threat_category",
        "event_tags",
    ),
    "exact",
)
_SEMANTIC |= dict.fromkeys(
    (
        "network_features.source_port",
        "network_features.protocol_number",
        "network_features.flow_duration_microseconds",
        "network_features.flow_packets_per_second",
        "network_features.idle_mean",
        "network_features.syn_flag_count",
        "network_features.rst_flag_count",
        "network_features.fin_flag_count",
        "network_features.urg_flag_count",
        "network_features.forward_psh_flags",
        "network_features.ransomware",
        "network_features.internal_anomaly",
        "overall_threat_score",
        "final_classification",
        "fast_detector_triggered",
        "fast_detector_reason",
        "decision_metadata.score_divergence",
        "decision_metadata.divergence_reason",
        "decision_metadata.anomaly_flags",
        "ml_analysis.traffic_context",
        "ml_analysis.final_threat_classification",
        "human_review.requires_human_analysis",
        "human_review.review_reasons",
        "provenance.verdicts",
        "geo_enrichment.source_ip_geo",
        "geo_enrichment.destination_ip_geo",
        "geo_enrichment.suspicious_geographic_pattern",
        "geo_enrichment.threat_intelligence_matches",
    ),
    "steps",
)

# Bounds of what is plausible apply: an impossible value is missing, whatever it is.
_ATTACK: dict[str, How] = {
    TIME if spec.path.startswith("(") else spec.path: "exact" for spec in load_features()
}
_ATTACK["final_classification"] = "steps"

FIELDS_FED: Mapping[str, Mapping[str, How]] = {
    "timeseries": _TIMESERIES,
    "semantic": _SEMANTIC,
    "attack": _ATTACK,
}
