"""What fuzzing begins with: for each target some inputs that it accepts."""

from __future__ import annotations

import json
from pathlib import Path
from zoneinfo import ZoneInfo

import lz4.block

from consumer.clock import ManualClock
from consumer.journal import Journal
from consumer.journal.segment import HEADER_BYTES
from consumer.quarantine.quarantine import Quarantine
from index.manifest import Manifest, render_manifest
from index.store import ModelIdentity, Shard
from tests.detector_layout import line_of, record_of
from tests.embed_samples import sample
from tests.fuzz.targets import DAY, LIMIT, NOW_NS
from tests.journal_kit import event

TOP = Path(__file__).resolve().parents[2]
VECTORS = TOP / "tests" / "interop" / "vectors.jsonl"
HEX = "ab" * 32
SETTINGS = b"""\
[data]
dir = "data"
min_free_mb = 1
[registry]
kind = "static"
[[detector.keys]]
id = "k"
scheme = "secretbox-v0"
hex = "%b"
[day]
timezone = "Europe/Madrid"
clock = "event"
[retention]
keep_days = 20
""" % HEX.encode()
MODEL = ModelIdentity("attack/1", HEX)
SHARDS = {DAY: Shard(DAY, 1, 7, "2017-07-04-r0001.faiss", 4096, HEX)}


def seeds(scratch: Path) -> dict[str, list[bytes]]:
    """Inputs by target. `scratch` is a folder for what has to be written first."""
    vectors = [json.loads(line) for line in VECTORS.read_text().splitlines()]
    wire = [bytes.fromhex(one["wire_hex"]) for one in vectors if one.get("wire_hex")]
    payloads = [bytes.fromhex(one["plaintext_protobuf_hex"]) for one in vectors]
    events = [made for _, made in sample()[::1500]]
    lines = [line_of(record_of(made, at, logged_s=1_499_000_000)) for at, made in enumerate(events)]
    plaintexts = [
        len(payload).to_bytes(4, order) + lz4.block.compress(payload, store_size=False)
        for payload in payloads
        for order in ("little", "big")
    ]
    return {
        "envelope": [*wire, *plaintexts],
        "admission": [*payloads, *(made.SerializeToString() for made in events)],
        "jsonl": lines,
        "http_answers": [_json(one) for one in _answers()],
        "etcd_values": [_json(one) for one in _values()],
        "settings": [SETTINGS, (TOP / "deploy" / "dayfold.toml").read_bytes()],
        "quarantine": _quarantined(scratch),
        "manifests": [render_manifest(Manifest("attack", 1, 256, MODEL, SHARDS))],
        **_journal(scratch),
    }


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _answers() -> list[object]:
    return [
        {"status": "ok", "encryption_key": HEX},
        {"seed": HEX},
        {"components": ["ml-detector", "sniffer"]},
        {"endpoint": "tcp://*:5572", "host": "10.0.0.5"},
        {"endpoints": ["tcp://10.0.0.5:5572", "tcp://[::1]:5572"]},
    ]


def _values() -> list[object]:
    return [
        {"component": "ml-detector", "endpoint": "tcp://*:5572", "host": "10.0.0.5"},
        {"endpoints": ["tcp://a:1"], "started_at": "2017-07-04T12:00:00Z"},
        {"scheme": "secretbox-v0", "key": HEX, "not_before": 1_499_000_000},
        {"scheme": "chacha20poly1305-v1", "seed": HEX, "context": "c", "not_after": "2017-07-04"},
    ]


def _quarantined(scratch: Path) -> list[bytes]:
    held = Quarantine(scratch / "q", ManualClock(NOW_NS), max_bytes=LIMIT, max_age_days=30)
    held.put("schema", b"message", detector="d", arrival_ns=NOW_NS, detail="why", sealed=True)
    held.close()
    content = next((scratch / "q").rglob("*.messages")).read_bytes()
    return [content, content[12 + 8 :]]


def _journal(scratch: Path) -> dict[str, list[bytes]]:
    """The files of a day of three events."""
    journal = Journal(
        scratch / "journal",
        zone=ZoneInfo("UTC"),
        clock=ManualClock(NOW_NS),
        on_fatal=lambda error: None,
    )
    journal.start()
    journal.append([event(number) for number in range(3)])
    journal.seal(DAY)
    journal.stop()
    folder = scratch / "journal" / DAY.isoformat()
    content = (folder / "000001.seg").read_bytes()
    ids = (folder / "000001.ids").read_bytes()
    return {
        "segment": [content, content[HEADER_BYTES:], content[HEADER_BYTES + 8 :]],
        "seals": [path.read_bytes() for path in sorted(folder.glob("*.json"))],
        "sidecar": [ids, ids[12:]],
    }
