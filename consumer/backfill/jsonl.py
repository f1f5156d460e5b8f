"""The detector's log: ``events/YYYY-MM-DD.jsonl``, one nested record per line.

A record tells less than its event: it has no event id, whole seconds, and a part of the features.
What it has goes to the fields of the event (see `names`); the rest stays with it as JSON text in
``custom_metadata``, one entry ``log.SECTION`` per section, up to `KEPT_BYTES` in all. Features that
it does not tell carry the detectors' own mark for "not measured".

Made up by us are the event id, ``log-`` and a digest of the record's content, and the entry
`RECORD_MARK`, which says that an event was read from a record and from which.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from consumer.backfill.fields import MISSING, TAKEN, clean, instant_ns, places_in, put
from consumer.backfill.names import RENAMED, SECTIONS, Path, place_of
from consumer.days import MAX_NS, NS_PER_SECOND
from consumer.wire.admission import YEAR_2000_NS
from proto.network_security_pb2 import NetworkFeatures, NetworkSecurityEvent

#: What the ids begin with that we make up.
MADE_UP: Final = "log-"
#: Longest line that is read, bytes.
LINE_BYTES: Final = 16 * 1024 * 1024
#: How much of a record is kept as text when no field takes it, bytes.
KEPT_BYTES: Final = 32 * 1024
#: The entry of ``custom_metadata`` that says that an event was read from a record (`Mark`).
RECORD_MARK: Final = "dayfold_record"
#: Detector scores and conclusions, and the flow: a record has at least one of them.
_TELLING: Final = ("detection", "network")
_STARTS: Final = re.compile(
    rb'\{\s*"(?:detection|features|ml_training_metadata|network|rag_metadata|system_state)"\s*:'
)
_MOST_STARTS: Final = 64
_DECODER: Final = json.JSONDecoder()
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_NUMBERS: Final = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPV6": 58}
_PROTOCOLS: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
_ATTACK_LABELS: Final = frozenset({"ATTACK", "MALICIOUS"})
# A flow of which nothing was measured. Counts have no mark for that; they stay zero.
_UNMEASURED: Final = NetworkFeatures()
for _name, _place in places_in("network_features").items():
    if _place.plain is not None and _place.field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        setattr(_UNMEASURED, _name, MISSING)
_FLOW: Final = ("network_features",)
_AMOUNTS: Final = (
    "total_forward_packets",
    "total_backward_packets",
    "total_forward_bytes",
    "total_backward_bytes",
    "flow_duration_microseconds",
)


class Found(NamedTuple):
    """A record in a line: where its bytes are, and what they say."""

    start: int
    end: int
    record: dict[str, Any]


class LineContent(NamedTuple):
    """What is in one line: records, normally one, and the reason why some of it is none."""

    records: list[Found]
    reason: str | None


class Mark(NamedTuple):
    """The record that an event was read from.

    Attributes:
        digest: 16 bytes, of the record's content: the same for the same record however it is laid
            out as text.
        second: the record's own time as it stands there, whole seconds; may count from a boot.
        detailed: whether the record tells packets and bytes of both directions and the duration.
    """

    digest: bytes
    second: int
    detailed: bool

    def to_text(self) -> str:
        """As `RECORD_MARK` holds it."""
        return f"{self.digest.hex()} {self.second} {int(self.detailed)}"

    @classmethod
    def of(cls, event: NetworkSecurityEvent) -> Mark | None:
        """The mark of an event that was read from a record; None for any other event."""
        try:
            digest, second, detailed = event.custom_metadata.get(RECORD_MARK, "").split()
            return cls(bytes.fromhex(digest), int(second), detailed == "1")
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event that was read from a record. Its time is when it was logged if it has no own one."""

    event: NetworkSecurityEvent
    mark: Mark

    @property
    def time_ns(self) -> int:
        """Its time, UTC ns."""
        return self.event.event_timestamp.ToNanoseconds()

    def payload(self) -> bytes:
        """The event's protobuf bytes; the same for the same record."""
        return self.event.SerializeToString(deterministic=True)


def read_line(line: bytes) -> LineContent:
    """The records in a line. Never raises for what is in it.

    A line that was torn when its writer died goes on with the writer's next record: that one is
    found behind the torn part. Reasons: ``corrupt`` for what is not JSON, ``not_a_record``.
    """
    try:
        whole = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return _search(line)
    if is_record(whole):
        return LineContent([Found(0, len(line), whole)], None)
    return LineContent([], "not_a_record")


def is_record(value: Any) -> bool:
    """Whether a JSON value is a detector's record: it tells of a detection or of a flow."""
    return isinstance(value, dict) and any(isinstance(value.get(name), dict) for name in _TELLING)


def _search(line: bytes) -> LineContent:
    found: list[Found] = []
    at = ended = 0
    clean_so_far = True
    for _ in range(_MOST_STARTS):
        start = _STARTS.search(line, at)
        if start is None:
            break
        at = start.start() + 1
        # Bytes that are not UTF-8 become halves of surrogate pairs, one for each byte.
        text = line[start.start() :].decode("utf-8", "surrogateescape")
        try:
            record, length = _DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            continue
        taken = text[:length].encode("utf-8", "surrogateescape")
        end = start.start() + len(taken)
        if is_record(record) and _is_utf8(taken):
            found.append(Found(start.start(), end, record))
            clean_so_far = clean_so_far and not line[ended : start.start()].strip()
            at = ended = end
    all_clean = clean_so_far and not line[ended:].strip()
    return LineContent(found, None if all_clean else "corrupt")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def record_digest(record: Mapping[str, Any]) -> bytes:
    """What identifies a record: BLAKE2b-128 of its content as canonical JSON.

    Raises:
        ValueError: it is nested too deeply.
    """
    return hashlib.blake2b(_canonical(record).encode(), digest_size=16).digest()


def _canonical(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_record(
    record: dict[str, Any], *, fallback_ns: int, event_id: str | None = None
) -> LoggedEvent:
    """The event of a record.

    Args:
        record: the nested record (`is_record`).
        fallback_ns: UTC ns, for a record that has neither a time of its own nor a `logged_at`.
        event_id: the detector's own id, where it is known; else one is made from the content.

    Raises:
        ValueError: nested too deeply.
    """
    digest = record_digest(record)
    event = NetworkSecurityEvent()
    event.network_features.MergeFrom(_UNMEASURED)
    reader = _Reader(event)
    left = {
        name: rest
        for name, section in record.items()
        if (rest := reader.section((name,), section)) is not TAKEN
    }
    own_ns = _own_ns(record)
    time_ns = next(
        (
            ns
            for ns in (own_ns, logged_ns(record))
            if ns is not None and YEAR_2000_NS < ns <= MAX_NS
        ),
        fallback_ns,
    )
    _complete(event, reader.seen)
    event.event_id = event_id or f"{MADE_UP}{digest.hex()}"
    event.event_timestamp.FromNanoseconds(time_ns)
    event.originating_node_id = _node(record)
    _keep(event, left)
    shown_ns = time_ns if own_ns is None else own_ns
    mark = Mark(digest, shown_ns // NS_PER_SECOND, reader.seen.issuperset(_AMOUNTS))
    event.custom_metadata[RECORD_MARK] = mark.to_text()
    return LoggedEvent(event, mark)


class _Reader:
    """Carries a record's values to the fields of one event; `seen` are the fields of the flow."""

    def __init__(self, event: NetworkSecurityEvent) -> None:
        self.seen: set[str] = set()
        self._event = event

    def section(self, path: Path, value: Any) -> Any:
        """Read a section. Returns what of it no field took, or `TAKEN`."""
        path = RENAMED.get(path, path)
        if path not in SECTIONS or not isinstance(value, dict):
            return value
        left: dict[str, Any] = {}
        for name, item in value.items():
            if isinstance(item, dict) and RENAMED.get(below := (*path, name), below) in SECTIONS:
                rest = self.section(below, item)
            else:
                rest = self._value(path, name, item)
            if rest is not TAKEN:
                left[name] = rest
        return left or TAKEN

    def _value(self, path: Path, name: str, value: Any) -> Any:
        where = place_of(path, name.lower(), value)
        if where is not None:
            rest = put(self._event, where, value)
            if rest is TAKEN and value is not None and where.parents == _FLOW:
                self.seen.add(where.name)
            return rest
        if not isinstance(value, dict):
            return value
        # {"bytes": {"forward": 1}} is bytes_forward.
        left: dict[str, Any] = {}
        for inner, item in value.items():
            rest = item if isinstance(item, dict) else self._value(path, f"{name}_{inner}", item)
            if rest is not TAKEN:
                left[inner] = rest
        return left or TAKEN


def _own_ns(record: Mapping[str, Any]) -> int | None:
    detection = record.get("detection")
    if not isinstance(detection, dict):
        return None
    return next(
        (
            ns
            for name in ("detection_timestamp", "event_timestamp", "timestamp")
            if (ns := instant_ns(detection.get(name))) is not None
        ),
        None,
    )


def logged_ns(record: Mapping[str, Any]) -> int | None:
    """When a record says that it was written, UTC ns; None if it does not."""
    for section in (record.get("rag_metadata"), record, record.get("detection")):
        if isinstance(section, dict) and (ns := instant_ns(section.get("logged_at"))) is not None:
            return ns
    return None


def _node(record: Mapping[str, Any]) -> str:
    """The sensor if the record names it, else the detector that wrote it."""
    metadata = record.get("rag_metadata")
    if not isinstance(metadata, dict):
        return ""
    for name in ("originating_node_id", "node_id"):
        node = metadata.get(name)
        if isinstance(node, str):
            return clean(node)
    return ""


def _complete(event: NetworkSecurityEvent, seen: set[str]) -> None:
    """What follows from the record: whether there is a flow, and the protocol's other name."""
    if seen:
        _complete_protocol(event.network_features, seen)
    else:
        event.ClearField("network_features")
    if event.HasField("ml_analysis"):
        label = event.ml_analysis.level1_general_detection.prediction_class.upper()
        if label in _ATTACK_LABELS:
            event.ml_analysis.attack_detected_level1 = True


def _complete_protocol(flow: NetworkFeatures, seen: set[str]) -> None:
    if "protocol_number" not in seen:
        flow.protocol_number = _NUMBERS.get(flow.protocol_name.upper(), 0)
    elif "protocol_name" not in seen:
        number = flow.protocol_number
        flow.protocol_name = _PROTOCOLS.get(number, f"IP-{number}")


def _keep(event: NetworkSecurityEvent, left: Mapping[str, Any]) -> None:
    """Keep what no field took, as text, within the bound; what is cut off is counted."""
    room = KEPT_BYTES
    cut = 0
    for name, rest in left.items():
        key, text = f"log.{clean(name)}", _canonical(rest)
        # The text is ASCII; a name may not be.
        size = len(key.encode()) + len(text)
        if size <= room:
            event.custom_metadata[key] = text
            room -= size
        elif (over := size - room) < len(text):
            event.custom_metadata[key] = text[:-over]
            cut += over
            room = 0
        else:
            cut += len(text)
    if cut:
        event.custom_metadata["log.cut_bytes"] = str(cut)
