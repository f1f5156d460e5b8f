"""Writes events the way a detector keeps them: a log of records, and an artifact per event.

The shape of a record is that of the detectors in the field: sections, names, whole seconds, and
nothing of the event's identity in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from consumer.replay.seal import Sealer
from consumer.wire.keys import ARTIFACT_CONTEXT, key_from_seed
from proto.network_security_pb2 import DetectorSource, NetworkSecurityEvent

SEED = bytes(range(32))
UTC_ZONE = ZoneInfo("UTC")
DETECTOR_NODE = "ml-detector-07"
Kind = Literal["pb", "json", "pb.enc", "json.enc"]


def record_of(event: NetworkSecurityEvent, number: int, *, logged_s: int) -> dict[str, Any]:
    """The record that a detector logs of an event; `number` counts its events."""
    flow = event.network_features
    logged_at = datetime.fromtimestamp(logged_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "rag_metadata": {
            "logged_at": logged_at,
            "deployment_id": "site-4",
            "node_id": DETECTOR_NODE,
            "log_version": "1.0.0",
        },
        "detection": {
            "detection_timestamp": event.event_timestamp.seconds,
            "scores": {
                "fast_detector": event.fast_detector_score,
                "ml_detector": event.ml_detector_score,
                "final_score": event.overall_threat_score,
                "divergence": event.decision_metadata.score_divergence,
            },
            "classification": {
                "authoritative_source": DetectorSource.Name(event.authoritative_source),
                "attack_family": "UNKNOWN",
                "level_1_label": event.ml_analysis.level1_general_detection.prediction_class,
                "final_class": event.final_classification,
                "threat_category": event.threat_category,
                "confidence": event.ml_analysis.level1_confidence,
            },
            "reasons": {
                "fast_detector_triggered": event.fast_detector_triggered,
                "fast_detector_reason": event.fast_detector_reason,
                "requires_rag_analysis": event.decision_metadata.requires_rag_analysis,
                "investigation_priority": "LOW",
            },
            "decision": {
                "confidence_level": event.decision_metadata.confidence_level,
                "divergence_reason": event.decision_metadata.divergence_reason,
            },
        },
        "network": {
            "five_tuple": {
                "src_ip": flow.source_ip,
                "src_port": flow.source_port,
                "dst_ip": flow.destination_ip,
                "dst_port": flow.destination_port,
                "protocol": flow.protocol_name,
            },
            "interface": flow.source_interface,
            "interface_mode": flow.interface_mode,
            "is_wan_facing": flow.is_wan_facing,
            "flow": {
                "duration_us": flow.flow_duration_microseconds,
                "total_packets": flow.total_forward_packets + flow.total_backward_packets,
                "total_bytes": flow.total_forward_bytes + flow.total_backward_bytes,
                "bytes_per_sec": flow.flow_bytes_per_second,
                "packets_per_sec": flow.flow_packets_per_second,
            },
        },
        "features": {
            "basic_stats": {
                "forward_packets": flow.total_forward_packets,
                "backward_packets": flow.total_backward_packets,
                "forward_bytes": flow.total_forward_bytes,
                "backward_bytes": flow.total_backward_bytes,
                "avg_packet_size": flow.average_packet_size,
            },
            "tcp_flags": {
                "syn": flow.syn_flag_count,
                "ack": flow.ack_flag_count,
                "fin": flow.fin_flag_count,
                "rst": flow.rst_flag_count,
                "psh": flow.psh_flag_count,
            },
            "timing": {
                "flow_iat_mean": flow.flow_inter_arrival_time_mean,
                "flow_iat_std": flow.flow_inter_arrival_time_std,
                "forward_iat_mean": flow.forward_inter_arrival_time_mean,
                "backward_iat_mean": flow.backward_inter_arrival_time_mean,
            },
        },
        "system_state": {
            "events_processed_total": number,
            "events_in_last_minute": 60,
            "memory_usage_mb": 148.25,
            "cpu_usage_percent": 11.5,
            "uptime_seconds": 3600 + number,
        },
        "ml_training_metadata": {
            "can_be_used_for_training": True,
            "ground_truth_label": "UNKNOWN",
            "human_validated": False,
        },
    }


def line_of(record: dict[str, Any]) -> bytes:
    """A record as a line of the log, with its newline."""
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@dataclass
class DetectorLayout:
    """A detector's folder. Every event that is given is logged, whatever its score.

    Attributes:
        root: the folder; `events` and `artifacts` go into it.
        zone: the detector's local time, which names files.
        kinds: which artifacts to write.
        lines: whether to write the log.
    """

    root: Path
    zone: ZoneInfo = UTC_ZONE
    kinds: tuple[Kind, ...] = ()
    lines: bool = True
    count: int = 0
    _sealer: Sealer = field(
        default_factory=lambda: Sealer(key_from_seed("artifacts", SEED, ARTIFACT_CONTEXT))
    )

    def write(self, events: Iterable[NetworkSecurityEvent]) -> None:
        """Log some events, each a second after its own time."""
        logs: dict[str, list[bytes]] = {}
        for event in events:
            self.count += 1
            logged_s = event.event_timestamp.seconds + 1
            name = datetime.fromtimestamp(logged_s, tz=self.zone).date().isoformat()
            record = record_of(event, self.count, logged_s=logged_s)
            logs.setdefault(name, []).append(line_of(record))
            self._artifacts(name, event, record)
        if self.lines:
            for name, lines in logs.items():
                path = self.log(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    file.writelines(lines)

    def log(self, name: str) -> Path:
        """The log of a local date."""
        return self.root / "events" / f"{name}.jsonl"

    def _artifacts(self, name: str, event: NetworkSecurityEvent, record: dict[str, Any]) -> None:
        folder = self.root / "artifacts" / name
        if self.kinds:
            folder.mkdir(parents=True, exist_ok=True)
        for kind in self.kinds:
            content = (
                event.SerializeToString()
                if kind.startswith("pb")
                else json.dumps(record, indent=2).encode()
            )
            if kind.endswith("enc"):
                content = self._sealer.seal(content)
            (folder / f"event_{event.event_id}.{kind}").write_bytes(content)
