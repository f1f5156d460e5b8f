"""The rarely said: verdict details, places, and warnings of the detector's side channels.

Most events have none of them. Each sign is a short phrase; together they follow the sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from operator import attrgetter
from typing import TypeAlias

from embed.wording import category_words, plain, reason_words
from proto.network_security_pb2 import (
    GeoEnrichment,
    NetworkFeatures,
    NetworkSecurityEvent,
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


_VERDICT = attrgetter("threat_category", "fast_detector_triggered", "fast_detector_reason")
_REASON_CODE = attrgetter("reason_code")
_WATCHED = attrgetter(*(name for name, _, _ in _RANSOMWARE))
# Phrases are made once per combination of facts; a day has few of them and many events.
_KNOWN = 8192


def signs_of(event: NetworkSecurityEvent) -> Signs:
    """The signs of an event, in a fixed order, each once."""
    has = event.HasField
    signs = _verdict(*_VERDICT(event))
    if has("decision_metadata"):
        decision = event.decision_metadata
        disagree = DISAGREEMENT <= decision.score_divergence <= 1.0
        # A slice of a repeated field costs half of what going through it does.
        flags = tuple(decision.anomaly_flags[:])
        signs += _decision(disagree, decision.divergence_reason, flags)
    if has("ml_analysis"):
        analysis = event.ml_analysis
        signs += _analysis(analysis.final_threat_classification, analysis.traffic_context)
    if has("human_review") and event.human_review.requires_human_analysis:
        signs += ("an analyst is asked to look",)
        signs += tuple(map(reason_words, event.human_review.review_reasons))
    if has("provenance") and not event.fast_detector_reason:
        # Newer detectors repeat the fast detector's reason here, engine by engine.
        signs += _engines(tuple(map(_REASON_CODE, event.provenance.verdicts[:])))
    if has("geo_enrichment"):
        signs += tuple(_places(event.geo_enrichment))
    if has("network_features"):
        signs += _warnings(event.network_features)
    return _each_once(signs) if signs else ()


@lru_cache(maxsize=_KNOWN)
def _each_once(signs: Signs) -> Signs:
    return tuple(dict.fromkeys(sign for sign in signs if sign))


@lru_cache(maxsize=_KNOWN)
def _verdict(threat_category: str, triggered: bool, fast_detector_reason: str) -> Signs:
    category, reason = category_words(threat_category), reason_words(fast_detector_reason)
    signs = (f"category {category}",) if category else ()
    if triggered:
        return (*signs, f"fast detector fired: {reason}" if reason else "fast detector fired")
    return (*signs, f"fast detector noted: {reason}") if reason else signs


@lru_cache(maxsize=_KNOWN)
def _decision(disagree: bool, reason: str, flags: tuple[str, ...]) -> Signs:
    signs = ("the detectors disagree",) if disagree else ()
    return (*signs, reason_words(reason), *map(reason_words, flags))


@lru_cache(maxsize=_KNOWN)
def _analysis(classification: str, traffic_context: str) -> Signs:
    final, context = category_words(classification), plain(traffic_context)
    signs = (f"category {final}",) if final else ()
    return (*signs, f"{context} traffic") if context else signs


@lru_cache(maxsize=_KNOWN)
def _engines(reason_codes: tuple[str, ...]) -> Signs:
    return tuple(code for code in map(reason_words, reason_codes) if code not in EMPTY_CODES)


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


def _warnings(network: NetworkFeatures) -> Signs:
    signs: Signs = ()
    if network.HasField("ransomware"):
        # NaN compares false, the sentinel is negative: neither says anything.
        signs = tuple(
            words
            for value, (_, least, words) in zip(
                _WATCHED(network.ransomware), _RANSOMWARE, strict=True
            )
            if value >= least
        )
    if network.HasField("internal_anomaly"):
        inside = network.internal_anomaly
        if inside.lateral_movement_score >= 0.5:
            signs += ("moves sideways between internal hosts",)
        if inside.data_exfiltration_indicators >= 0.5:
            signs += ("signs of data exfiltration",)
    return signs
