"""Whatever stands in a log, reading it ends in events and counted faults, never in an error."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.backfill.following import FollowedFile
from consumer.backfill.jsonl import KEPT_BYTES, Mark, is_record, read_line, read_record
from consumer.backfill.names import SECTIONS
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.detector_layout import line_of, record_of
from tests.embed_samples import sample

RECORDS = [
    record_of(event, number, logged_s=event.event_timestamp.seconds)
    for number, (_, event) in enumerate(sample()[::1000])
]
LINES = [line_of(record).rstrip(b"\n") for record in RECORDS]
KNOWN_NAMES = sorted({name for table in SECTIONS.values() for name in table})

names = st.sampled_from([*KNOWN_NAMES, *(path[-1] for path in SECTIONS), "protocol", "country"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["2017-07-04T12:00:00Z", "0001-01-01", "9999-12-31T23:59:59-12:00", "1e400"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(names | st.text(), inner, max_size=5)
    ),
    max_leaves=8,
)
sections = st.dictionaries(names, values, max_size=5)
nested = st.fixed_dictionaries(
    {},
    optional={
        "detection": sections
        | st.fixed_dictionaries({"detection_timestamp": values, "scores": sections}),
        "network": sections | st.fixed_dictionaries({"five_tuple": sections, "geoip": sections}),
        "features": sections | st.fixed_dictionaries({"ddos_embedded": values}),
        "rag_metadata": values | st.fixed_dictionaries({"logged_at": values, "node_id": values}),
        "logged_at": values,
        "system_state": values,
    },
)


@given(nested)
@settings(max_examples=60)
def test_any_record_becomes_an_event_that_survives_its_bytes(record: dict[str, Any]) -> None:
    (found,) = read_line(json.dumps(record).encode()).records or (None,)
    if found is None:
        assert not is_record(record)
        return
    logged = read_record(found.record, fallback_ns=1_500_000_000 * 10**9)
    back = NetworkSecurityEvent.FromString(logged.payload())
    assert back == logged.event
    assert Mark.of(back) == logged.mark
    assert sum(len(text) for text in back.custom_metadata.values()) < KEPT_BYTES + 200


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_read(line: bytes) -> None:
    found = read_line(line)
    assert found.records == []
    assert found.reason in {"corrupt", "not_a_record"} or not line.strip()


@given(
    st.sampled_from(range(len(LINES))),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5),
)
@settings(max_examples=200)
def test_a_damaged_line_gives_an_event_or_a_fault(
    number: int, damage: list[tuple[float, int]]
) -> None:
    line = bytearray(LINES[number])
    for place, byte in damage:
        line[int(place * (len(line) - 1))] = byte
    found = read_line(bytes(line))
    assert found.records or found.reason
    for one in found.records:
        read_record(one.record, fallback_ns=0)


@given(
    st.lists(
        st.tuples(st.sampled_from(range(len(LINES))), st.none() | st.floats(0, 0.99)),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=200)
def test_every_whole_record_among_torn_ones_is_found(
    pieces: list[tuple[int, float | None]],
) -> None:
    line = b""
    whole = []
    for number, cut in pieces:
        if cut is None:
            line += LINES[number]
            whole.append(RECORDS[number])
        else:
            line += LINES[number][: int(cut * len(LINES[number]))]
    found = read_line(line)
    assert [one.record for one in found.records] == whole


@given(st.binary(max_size=600), st.lists(st.integers(0, 200), max_size=8), st.booleans())
@settings(max_examples=100)
def test_a_log_that_grows_in_any_steps_gives_each_whole_line_once(
    content: bytes, steps: list[int], reopened: bool
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "log.jsonl")
        path.touch()
        file = FollowedFile.open(path)
        lines: list[bytes | None] = []
        written = 0
        for step in [*steps, len(content)]:
            with path.open("ab") as log:
                log.write(content[written : written + step])
            written = min(written + step, len(content))
            lines += [line.content for line in file.lines()]
            if reopened:
                known = file.position
                file.close()
                file = FollowedFile.open(path, known)
        assert file.rest() == content.rpartition(b"\n")[2]
        file.close()
    assert lines == [line.rstrip(b"\r") for line in content.split(b"\n")[:-1]]
