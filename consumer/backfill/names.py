"""Which name in which section of a detector's record is which field of the event.

In every section the schema's own field names are known, those of the messages that the section is
about. Beside them stand the names that detectors write and the usual short forms. What is not here
is not lost: it stays with the event as JSON text (see `consumer.backfill.jsonl`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from consumer.backfill.fields import Place, place, places_in

Path = tuple[str, ...]
Table = Mapping[str, Place]

_FEATURES = "network_features"
_GEO = "geo_enrichment"
_DECISION = "decision_metadata"
_ML = "ml_analysis"

# What identifies an event is decided elsewhere and never taken from a name in a section.
_RESERVED: Final = frozenset({"event_id", "event_timestamp", "originating_node_id"})

_SCORES = {
    "fast": "fast_detector_score",
    "fast_detector": "fast_detector_score",
    "fast_score": "fast_detector_score",
    "ml": "ml_detector_score",
    "ml_detector": "ml_detector_score",
    "ml_score": "ml_detector_score",
    "final": "overall_threat_score",
    "final_score": "overall_threat_score",
    "overall": "overall_threat_score",
    "overall_score": "overall_threat_score",
    "threat_score": "overall_threat_score",
    "divergence": f"{_DECISION}.score_divergence",
}
_CLASSIFICATION = {
    "final_class": "final_classification",
    "class": "final_classification",
    "classification": "final_classification",
    "category": "threat_category",
    "source": "authoritative_source",
    "level_1_label": f"{_ML}.level1_general_detection.prediction_class",
    "level1_label": f"{_ML}.level1_general_detection.prediction_class",
    "level_1_confidence": f"{_ML}.level1_confidence",
    "confidence": f"{_ML}.level1_confidence",
}
_REASONS = {
    "triggered": "fast_detector_triggered",
    "reason": "fast_detector_reason",
    "priority": f"{_DECISION}.investigation_priority",
}
_DECISIONS = {
    "confidence": f"{_DECISION}.confidence_level",
    "divergence": f"{_DECISION}.score_divergence",
    "reason": f"{_DECISION}.divergence_reason",
    "priority": f"{_DECISION}.investigation_priority",
}
_ENDS = {
    "src": "source_ip",
    "src_ip": "source_ip",
    "source": "source_ip",
    "dst": "destination_ip",
    "dst_ip": "destination_ip",
    "dest_ip": "destination_ip",
    "destination": "destination_ip",
    "src_port": "source_port",
    "sport": "source_port",
    "dst_port": "destination_port",
    "dest_port": "destination_port",
    "dport": "destination_port",
}
_INTERFACE = {
    "interface": "source_interface",
    "name": "source_interface",
    "ifindex": "source_ifindex",
    "index": "source_ifindex",
    "mode": "interface_mode",
    "wan_facing": "is_wan_facing",
}
_AMOUNTS = {
    "duration_us": "flow_duration_microseconds",
    "duration_microseconds": "flow_duration_microseconds",
    "flow_duration_us": "flow_duration_microseconds",
    "duration": "flow_duration",
    "start_time": "flow_start_time",
    "bytes_per_sec": "flow_bytes_per_second",
    "bytes_per_second": "flow_bytes_per_second",
    "packets_per_sec": "flow_packets_per_second",
    "packets_per_second": "flow_packets_per_second",
    "avg_packet_size": "average_packet_size",
    "min_packet_length": "minimum_packet_length",
    "max_packet_length": "maximum_packet_length",
    "min_packet_size": "minimum_packet_length",
    "max_packet_size": "maximum_packet_length",
    "down_up_ratio": "download_upload_ratio",
}
_PLACE_NAMES = {
    "city": "city_name",
    "region": "region_name",
    "lat": "latitude",
    "lon": "longitude",
    "isp": "isp_name",
    "organization": "organization_name",
    "asn": "autonomous_system_number",
    "tor": "is_tor_exit_node",
    "malicious": "is_known_malicious",
}
_GEO_NAMES = {
    "distance_km": "source_destination_distance_km",
    "same_country": "source_destination_same_country",
    "anomaly_score": "geographic_anomaly_score",
    "suspicious": "suspicious_geographic_pattern",
}


def _directions() -> Iterator[tuple[str, str]]:
    """``forward_packets``, ``packets_fwd``, ``total_fwd_bytes`` and their kind."""
    for way, spellings in {
        "forward": ("forward", "fwd", "sent"),
        "backward": ("backward", "bwd", "received"),
    }.items():
        for spelling in spellings:
            for what in ("packets", "bytes"):
                field = f"total_{way}_{what}"
                yield f"{spelling}_{what}", field
                yield f"{what}_{spelling}", field
                yield f"total_{spelling}_{what}", field


def _flags() -> Iterator[tuple[str, str]]:
    for flag in ("fin", "syn", "rst", "psh", "ack", "urg", "cwe", "ece"):
        for spelling in (flag, f"{flag}_count", f"{flag}_flag", f"{flag}_flags"):
            yield spelling, f"{flag}_flag_count"
    yield "cwr", "cwe_flag_count"
    yield "cwr_count", "cwe_flag_count"


def _gaps() -> Iterator[tuple[str, str]]:
    """``flow_iat_mean`` and its kind: times between packets."""
    known = places_in(_FEATURES)
    for way, spellings in {
        "flow": ("flow", ""),
        "forward": ("forward", "fwd"),
        "backward": ("backward", "bwd"),
    }.items():
        for what in ("mean", "std", "max", "min", "total"):
            field = f"{way}_inter_arrival_time_{what}"
            if field in known:
                for spelling in spellings:
                    yield f"{spelling}_iat_{what}".removeprefix("_"), field


def _table(messages: tuple[str, ...], *names: Mapping[str, str], under: str = "") -> Table:
    """The fields of some messages, the first of the same name winning, and the given names."""
    table: dict[str, Place] = {}
    for message in reversed(messages):
        table |= places_in(message)
    for name in _RESERVED:
        table.pop(name, None)
    for given in names:
        for name, field in given.items():
            table[name] = place(f"{under}.{field}" if under else field)
    return table


def _feature_table(*names: Mapping[str, str]) -> Table:
    return _table((_FEATURES,), *names, under=_FEATURES)


_VERDICT = ("", _DECISION, _ML)
_FLOW = (_AMOUNTS, dict(_directions()))

#: The sections of a record. A section that is not here is looked up in the one above it.
SECTIONS: Final[Mapping[Path, Table]] = {
    ("detection",): _table(_VERDICT, _SCORES, {"final_class": "final_classification"}),
    ("detection", "scores"): _table(_VERDICT, _SCORES),
    ("detection", "classification"): _table(_VERDICT, _CLASSIFICATION),
    ("detection", "reasons"): _table(_VERDICT, _REASONS),
    ("detection", "decision"): _table((_DECISION, "", _ML), _DECISIONS),
    ("network",): _feature_table(_ENDS, _INTERFACE, *_FLOW),
    ("network", "five_tuple"): _feature_table(_ENDS),
    ("network", "flow"): _feature_table(*_FLOW),
    ("network", "interface"): _feature_table(_INTERFACE),
    ("network", "geoip"): _table((_GEO,), _GEO_NAMES, under=_GEO),
    ("network", "geoip", "source"): _table(
        (f"{_GEO}.source_ip_geo",), _PLACE_NAMES, under=f"{_GEO}.source_ip_geo"
    ),
    ("network", "geoip", "destination"): _table(
        (f"{_GEO}.destination_ip_geo",), _PLACE_NAMES, under=f"{_GEO}.destination_ip_geo"
    ),
    ("features",): _feature_table(*_FLOW, dict(_flags()), dict(_gaps())),
    ("features", "basic_stats"): _feature_table(*_FLOW),
    ("features", "tcp_flags"): _feature_table(dict(_flags())),
    ("features", "timing"): _feature_table(*_FLOW, dict(_gaps())),
}

#: Other names of sections.
RENAMED: Final[Mapping[Path, Path]] = {
    ("network", "geoip", other): ("network", "geoip", name)
    for name, others in {
        "source": ("src", "source_ip", "source_ip_geo"),
        "destination": ("dst", "destination_ip", "destination_ip_geo"),
    }.items()
    for other in others
}

_PROTOCOL_NAME = place(f"{_FEATURES}.protocol_name")
_PROTOCOL_NUMBER = place(f"{_FEATURES}.protocol_number")


def place_of(section: Path, name: str, value: Any) -> Place | None:
    """Where a name of a section goes, or None. Twice the value decides: a name or a number."""
    if name in {"protocol", "proto"} and section[0] == "network":
        is_name = isinstance(value, str) and not value.strip().isdecimal()
        return _PROTOCOL_NAME if is_name else _PROTOCOL_NUMBER
    if name == "country" and section[:2] == ("network", "geoip"):
        kind = "country_code" if isinstance(value, str) and len(value) == 2 else "country_name"
        return SECTIONS[section].get(kind)
    return SECTIONS[section].get(name)
