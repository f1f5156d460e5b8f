"""The rarely said: verdict details, places, and warnings of the detector's side channels.

Most events have none of them. Each sign is a short phrase; together they follow the sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from embed.wording import category_words, plain, reason_words
from proto.network_security_pb2 import (
    DecisionMetadata,
    GeoEnrichment,
    NetworkFeatures,
    NetworkSecurityEvent,
    TricapaMLAnalysis,
)

Signs: TypeAlias = tuple[str, ...]

DISAGREEMENT = 0.30
EMPTY_CODES = frozenset({"unknown", "none", "normal", "benign"})

# Counters and ratios of the ransomware watch, with the value from which they are worth a word.
_RANSOMWARE: tuple[tuple[str, float, str], ...] = (
    ("rdp_failed_auth_count", 1, "failed remote desktop logins"),
    ("smb_connection_diversity", 10, "reaches many hosts over Windows file sharing"),
    ("new_external_ips_30s", 10, "contacts many new external hosts"),
    ("new_internal_connections_30s", 10, "spreads to new internal hosts (lateral movement)"),
    ("port_scan_pattern_score", 0.5, "port scan pattern"),
    ("tls_self_signed_cert_count", 1, "self-signed certificates"),
    ("non_standard_port_http_count", 1, "web traffic on unusual ports"),
    ("failed_dns_queries_ratio", 0.5, "many failed name lookups"),
    ("dns_query_entropy", 4.0, "random-looking names looked up"),
    ("large_upload_sessions_count", 1, "large uploads"),
    ("unique_destinations_30s", 50, "many destinations within seconds"),
    ("burst_connections_count", 50, "bursts of connections"),
)


def signs_of(event: NetworkSecurityEvent) -> Signs:
    """The signs of an event, in a fixed order, each once."""
    signs = [*_verdict(event)]
    if event.HasField("decision_metadata"):
        signs += _decision(event.decision_metadata)
    if event.HasField("ml_analysis"):
        signs += _analysis(event.ml_analysis)
    if event.HasField("human_review") and event.human_review.requires_human_analysis:
        signs.append("an analyst is asked to look")
        signs += map(reason_words, event.human_review.review_reasons)
    if event.HasField("provenance") and not event.fast_detector_reason:
        # Newer detectors repeat the fast detector's reason here, engine by engine.
        codes = [reason_words(verdict.reason_code) for verdict in event.provenance.verdicts]
        signs += [code for code in codes if code not in EMPTY_CODES]
    if event.HasField("geo_enrichment"):
        signs += _places(event.geo_enrichment)
    if event.HasField("network_features"):
        signs += _warnings(event.network_features)
    return tuple(dict.fromkeys(sign for sign in signs if sign)) if signs else ()


def _verdict(event: NetworkSecurityEvent) -> Iterator[str]:
    if category := category_words(event.threat_category):
        yield f"category {category}"
    reason = reason_words(event.fast_detector_reason)
    if event.fast_detector_triggered:
        yield f"fast detector fired: {reason}" if reason else "fast detector fired"
    elif reason:
        yield f"fast detector noted: {reason}"


def _decision(decision: DecisionMetadata) -> Iterator[str]:
    if DISAGREEMENT <= decision.score_divergence <= 1.0:
        yield "the detectors disagree"
    yield reason_words(decision.divergence_reason)
    yield from map(reason_words, decision.anomaly_flags)


def _analysis(analysis: TricapaMLAnalysis) -> Iterator[str]:
    if final := category_words(analysis.final_threat_classification):
        yield f"category {final}"
    if context := plain(analysis.traffic_context):
        yield f"{context} traffic"


def _places(geo: GeoEnrichment) -> Iterator[str]:
    ends = (("source", geo.source_ip_geo), ("destination", geo.destination_ip_geo))
    for end, place in ends:
        country = place.country_name or place.country_code
        if country:
            yield f"{end} in {plain(country)}"
        if place.is_tor_exit_node:
            yield f"{end} is a Tor exit node"
        if place.is_anonymous_proxy:
            yield f"{end} is an anonymous proxy"
        if place.is_known_malicious:
            yield f"{end} is known to be malicious"
    if geo.suspicious_geographic_pattern:
        yield "unusual geography"
    for match in geo.threat_intelligence_matches:
        yield f"threat intelligence: {plain(match)}"


def _warnings(network: NetworkFeatures) -> Iterator[str]:
    if network.HasField("ransomware"):
        watch = network.ransomware
        for name, least, words in _RANSOMWARE:
            # NaN compares false, the sentinel is negative: neither says anything.
            if getattr(watch, name) >= least:
                yield words
    if network.HasField("internal_anomaly"):
        inside = network.internal_anomaly
        if inside.lateral_movement_score >= 0.5:
            yield "moves sideways between internal hosts"
        if inside.data_exfiltration_indicators >= 0.5:
            yield "signs of data exfiltration"
