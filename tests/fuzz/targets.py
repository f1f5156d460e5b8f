"""What is fuzzed: functions that take any bytes and fail only by what they may raise.

Each target gives the bytes to a reader as the product does, swallows the errors that the reader
says it raises, and checks what it promises of what it accepted. Anything else that is raised is a
finding. `make fuzz` drives them with a coverage-guided fuzzer, `test_fuzz_targets.py` without one.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from consumer.backfill.jsonl import read_line, read_record
from consumer.clock import ManualClock
from consumer.days import day_bounds_ns
from consumer.errors import (
    ConfigurationError,
    DecompressionError,
    JournalError,
    QuarantineError,
    TamperedError,
    UnknownKeyError,
)
from consumer.journal.counts import read_counts
from consumer.journal.durable import checked_json
from consumer.journal.frames import BadFrameError
from consumer.journal.record import decode
from consumer.journal.retired import read_retired
from consumer.journal.seal import read_seal, seal_path
from consumer.journal.segment import scan_segment, segment_header, segment_name, valid_frames
from consumer.journal.sidecar import HEADER, MAGIC, read_facts, read_table, sidecar_path
from consumer.quarantine.quarantine import Quarantine
from consumer.reception.detectors import endpoints_from_registry, keys_from_registry
from consumer.registry.directory import Change, Directory
from consumer.registry.entries import Layout, MalformedError
from consumer.registry.http_answers import read_components, read_config, read_key_field
from consumer.registry.http_directory import HttpDirectory
from consumer.replay.seal import Sealer
from consumer.settings import load
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from consumer.wire.envelope import Envelope
from consumer.wire.keys import Key, KeyRing
from index.errors import StoreError
from index.manifest import CURRENT, _render_current, manifest_name, read_current, read_manifest
from proto.network_security_pb2 import NetworkSecurityEvent

Target = Callable[[bytes], None]

LIMIT = 1 << 20
DAY = date(2017, 7, 4)
NOW_NS = 1_499_169_600_000_000_000  # 2017-07-04 12:00 UTC
MADRID = ZoneInfo("Europe/Madrid")
KEYS = (
    Key("v1", "chacha20poly1305-v1", bytes(range(32))),  # test keys, those of the wire vectors
    Key("v0", "secretbox-v0", bytes(range(32))),
)
# In memory where that can be: a fuzzer writes these files thousands of times a second.
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_SCRATCH = tempfile.TemporaryDirectory(prefix="dayfold-fuzz-", dir=_MEMORY)
SCRATCH = Path(_SCRATCH.name)


def envelope(data: bytes) -> None:
    """Bytes from the wire, and the same bytes as what a key holder sealed."""
    opener = Envelope(KeyRing(ManualClock(NOW_NS), KEYS), max_event_bytes=LIMIT)
    messages = [data, *(Sealer(key).encrypt(data) for key in KEYS)]
    for message in messages:
        with suppress(UnknownKeyError, TamperedError, DecompressionError):
            opened = opener.open("d", message)
            assert len(opened.payload) <= LIMIT


def admission(data: bytes) -> None:
    """A payload in each mode: it has a day that holds it, or a reason."""
    for event_clock in (False, True):
        rules = Admission(MADRID, event_clock=event_clock)
        for one in (rules, rules.sibling(boot_clock=True, timed_identity=False)):
            answer = one.admit(data, None, NOW_NS)
            if isinstance(answer, Admitted):
                start, end = day_bounds_ns(answer.day, MADRID)
                assert start <= answer.time_ns < end
                assert len(answer.digest) == 16
            else:
                assert answer.reason in {"schema", "future"}


def jsonl(data: bytes) -> None:
    """A line of a detector's log: events that survive their bytes, and a reason for the rest."""
    found = read_line(data)
    assert found.records or found.reason or not data.strip()
    for one in found.records:
        logged = read_record(one.record, fallback_ns=NOW_NS)
        assert NetworkSecurityEvent.FromString(logged.payload()) == logged.event


def http_answers(data: bytes) -> None:
    """An answer of the HTTP registry, taken as each kind of answer."""
    directory = HttpDirectory("ml-detector")
    with suppress(MalformedError):
        directory.take_key("seed", read_key_field("seed", data))
    with suppress(MalformedError):
        directory.take_components(read_components(data)[0])
    with suppress(MalformedError):
        directory.take_detector("ml-detector", read_config("ml-detector", data)[0])
    keys_from_registry(directory.keys())
    endpoints_from_registry(directory.detectors())
    json.dumps([*directory.components(), *directory.faults()[1].values()]).encode()


def etcd_values(data: bytes) -> None:
    """A value that somebody wrote on etcd, as a detector and as a key."""
    layout = Layout()
    directory = Directory(layout, "ml-detector")
    directory.apply(
        [
            Change(layout.service("ml-detector", "one"), 1, data),
            Change(layout.crypto_key("ml-detector", "k"), 2, data),
            Change(data.decode(errors="replace"), 3, data),
        ]
    )
    keys_from_registry(directory.keys())
    endpoints_from_registry(directory.detectors())
    json.dumps([*directory.faults()[1].items()]).encode()


def settings(data: bytes) -> None:
    """A settings file: usable, or refused."""
    path = SCRATCH / "dayfold.toml"
    path.write_bytes(data)
    with suppress(ConfigurationError):
        load(path)


def _folder() -> Path:
    folder = SCRATCH / DAY.isoformat()
    folder.mkdir(exist_ok=True)
    return folder


def segment(data: bytes) -> None:
    """A segment: with any bytes, and with any bytes behind a good header, as frames and raw."""
    path = _folder() / segment_name(1)
    body = b"".join(
        struct.pack("<II", len(part), zlib.crc32(part)) + part for part in data.split(b"\n")
    )
    header = segment_header(DAY, 1)
    for content in (data, header + data, header + body):
        path.write_bytes(content)
        scan = scan_segment(path, DAY, 1)
        assert scan.extent.bytes == len(content)
        assert len(scan.ids) == scan.extent.records
        with path.open("rb", buffering=0) as file:
            for frames in valid_frames(file, len(content), DAY, 1, []):
                with suppress(BadFrameError):
                    decode(frames)


def seals(data: bytes) -> None:
    """A day's seal, counts and mark of retirement: with any bytes, and with their own checksum."""
    folder = _folder()
    contents = [data]
    with suppress(ValueError, RecursionError):
        document = json.loads(data)
        if isinstance(document, dict):
            contents.append(checked_json(document))
    for content in contents:
        for name in (seal_path(folder, 1).name, "counts.json", "retired.json"):
            (folder / name).write_bytes(content)
        with suppress(JournalError):
            assert read_seal(folder, DAY, 1).day == DAY
        with suppress(JournalError):
            read_retired(folder, DAY)
        read_counts(folder)


def sidecar(data: bytes) -> None:
    """A sidecar: with any bytes, and with a header that agrees with its checksum."""
    path = _folder() / segment_name(2)
    path.write_bytes(b"")
    bare = MAGIC + struct.pack("<I", 1) + data[: HEADER.size - 16].ljust(HEADER.size - 16, b"\0")
    good = bare + zlib.crc32(bare).to_bytes(4, "little") + data[HEADER.size - 16 :]
    for content in (data, good):
        sidecar_path(path).write_bytes(content)
        facts = read_facts(path, 2)
        if facts is not None:
            table = read_table(path, facts)
            assert table is None or len(table) == facts.extent.records


def quarantine(data: bytes) -> None:
    """A file of the quarantine."""
    root = SCRATCH / "quarantine"
    file = root / "schema" / "00000001.messages"
    file.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack("<8sI", b"dayfoldQ", 1)
    frame = struct.pack("<II", len(data), zlib.crc32(data)) + data
    for content in (data, header + frame):
        file.write_bytes(content)
        with suppress(QuarantineError):
            held = Quarantine(root, ManualClock(NOW_NS), max_bytes=LIMIT, max_age_days=1e9)
            for message in held.list():
                json.dumps(message.to_json())


def manifests(data: bytes) -> None:
    """The file that names an index's generation, and the manifest of that generation."""
    folder = SCRATCH / "index"
    folder.mkdir(exist_ok=True)
    digest = hashlib.sha256(data).hexdigest()
    for current, manifest in ((data, b""), (_render_current(1, digest), data)):
        (folder / CURRENT).write_bytes(current)
        (folder / manifest_name(1)).write_bytes(manifest)
        with suppress(StoreError):
            read_current(folder, "attack")
        with suppress(StoreError):
            assert read_manifest(folder, "attack").index == "attack"


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        envelope,
        admission,
        jsonl,
        http_answers,
        etcd_values,
        settings,
        segment,
        seals,
        sidecar,
        quarantine,
        manifests,
    )
}
