import io
import tempfile
from pathlib import Path

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.journal import Record, scan_segment
from consumer.journal.record import decode, encode
from consumer.journal.segment import HEADER_BYTES, segment_header, valid_frames
from consumer.wire.admitted import Admitted, by_day
from tests.journal_kit import DAY

pytestmark = pytest.mark.usefixtures("each_way")

int64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def admitted(draw: st.DrawFn) -> tuple[Admitted, bytes]:
    raw = draw(st.binary(max_size=200) | st.binary(min_size=1, max_size=4).map(lambda b: b * 90))
    compressed = draw(st.booleans())
    stored = lz4.block.compress(raw, store_size=False) if compressed else raw
    event = Admitted(
        day=DAY,
        time_ns=draw(int64),
        own_time=draw(st.booleans()),
        digest=draw(st.binary(min_size=16, max_size=16)),
        arrival_ns=draw(int64),
        payload=stored,
        raw_size=len(raw),
        compressed=compressed,
    )
    return event, raw


batches = st.lists(admitted(), max_size=12)


def encoded(batch: list[tuple[Admitted, bytes]]) -> bytes:
    return b"".join(map(encode, by_day([event for event, _ in batch])))


def open_segment(folder: str, content: bytes) -> tuple[Path, io.FileIO]:
    path = Path(folder) / "000001.seg"
    path.write_bytes(content)
    return path, path.open("rb", buffering=0)


def records_in(file: io.FileIO, size: int) -> list[Record]:
    return [record for frames in valid_frames(file, size, DAY, 1, []) for record in decode(frames)]


@given(batches)
def test_what_is_encoded_is_decoded(batch: list[tuple[Admitted, bytes]]) -> None:
    content = segment_header(DAY, 1) + encoded(batch)
    with tempfile.TemporaryDirectory() as folder:
        path, file = open_segment(folder, content)
        with file:
            found = records_in(file, len(content))
        scan = scan_segment(path, DAY, 1)
    assert found == [
        Record(event.time_ns, event.arrival_ns, raw, event.own_time) for event, raw in batch
    ]
    assert scan.gaps == ()
    assert scan.ids.tobytes() == b"".join(event.digest for event, _ in batch)


@given(batches, st.data())
def test_any_cut_leaves_the_records_before_it(
    batch: list[tuple[Admitted, bytes]], data: st.DataObject
) -> None:
    content = segment_header(DAY, 1) + encoded(batch)
    cut = data.draw(st.integers(HEADER_BYTES, len(content)))
    whole, at = 0, HEADER_BYTES
    for event, _ in batch:
        at += 45 + len(event.payload)
        whole += at <= cut
    with tempfile.TemporaryDirectory() as folder:
        path, file = open_segment(folder, content[:cut])
        file.close()
        scan = scan_segment(path, DAY, 1)
    assert scan.extent.records == whole
    assert scan.rot is None
    assert (scan.torn_at is None) is (len(scan.gaps) == 0)


@settings(max_examples=200)
@given(st.lists(admitted(), min_size=1, max_size=12), st.data())
def test_any_changed_byte_costs_only_its_own_record(
    batch: list[tuple[Admitted, bytes]], data: st.DataObject
) -> None:
    content = bytearray(segment_header(DAY, 1) + encoded(batch))
    at = data.draw(st.integers(HEADER_BYTES, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path, file = open_segment(folder, bytes(content))
        file.close()
        scan = scan_segment(path, DAY, 1)
    begin, kept = HEADER_BYTES, b""
    for event, _ in batch:
        end = begin + 45 + len(event.payload)
        if not begin <= at < end:
            kept += event.digest
        else:
            gap = (begin, end)
        begin = end
    assert scan.ids.tobytes() == kept
    assert [(found.start, found.end) for found in scan.gaps] == [gap]
    assert (scan.torn_at is None) is (gap[1] < len(content))
