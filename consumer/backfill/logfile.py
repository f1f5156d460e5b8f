"""One log file on its way in.

A log is read in windows of `WINDOW` records, so that memory does not grow with it. Within a window
the records of events that the journal holds are found and left out, and the rest is put in the
order of the events' own time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from zoneinfo import ZoneInfo

import lz4.block
import numpy as np

from consumer.backfill.artifacts import RecordNames, likeness
from consumer.backfill.events import PastEvent, PastEvents
from consumer.backfill.jsonl import LINE_BYTES, LoggedEvent, read_line, read_record
from consumer.backfill.known import Candidate, KnownEvents, days_of
from consumer.backfill.layout import LogFile
from consumer.backfill.local_time import logged_about_ns, noon_ns
from consumer.backfill.tally import Tally

#: A window ends at so many records, or so many bytes of events as they are kept meanwhile.
WINDOW: Final = 25_000
WINDOW_BYTES: Final = 64 * 1024 * 1024
_PUT: Final = 512


class Line(NamedTuple):
    """A line of a file: its number from 1, and its bytes without the newline.

    `content` is None if it is longer than `LINE_BYTES`; `ended` says whether a newline was there.
    """

    number: int
    content: bytes | None
    ended: bool


def lines_of(file: BinaryIO, size: int) -> Iterator[Line]:
    """The lines in the first `size` bytes of a file."""
    number = offset = 0
    while offset < size:
        number += 1
        raw = file.readline(min(LINE_BYTES + 1, size - offset))
        if not raw:
            return
        offset += len(raw)
        content: bytes | None = raw
        while not raw.endswith(b"\n") and offset < size:
            content = None
            raw = file.readline(min(LINE_BYTES, size - offset))
            if not raw:
                break
            offset += len(raw)
        ended = raw.endswith(b"\n")
        yield Line(number, content if content is None else content.rstrip(b"\r\n"), ended)


@dataclass(slots=True)
class _Window:
    """Records of a log: what they are compared by, their events' times, and their compressed bytes."""

    candidates: list[Candidate] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)


class LogImport:
    """Brings in logs.

    Args:
        zone: of the days of the journal.
        local: of the dates in names.
        on_bytes: told how far the second reading of a file is, as the number of its bytes.
    """

    def __init__(
        self,
        events: PastEvents,
        known: KnownEvents,
        tally: Tally,
        names: RecordNames,
        *,
        zone: ZoneInfo,
        local: ZoneInfo,
    ) -> None:
        self._events = events
        self._known = known
        self._tally = tally
        self._names = names
        self._zone = zone
        self._local = local

    def run(self, log: LogFile, size: int, on_bytes: Callable[[int], None]) -> None:
        """Put the events in the first `size` bytes of a log into the sink.

        `on_bytes` is told how many of them are done. Raises as `PastEvents.put` does, and OSError
        if the file cannot be read.
        """
        fallback_ns = (
            logged_about_ns(log.path, None, self._local)
            if log.day is None
            else noon_ns(log.day, self._local)
        )
        names = self._names.for_log(log.day)
        with log.path.open("rb") as file:
            records = self._records(log.path, lines_of(file, size), fallback_ns)
            while (window := self._window(records, names)).candidates:
                self._bring_in(window)
                on_bytes(file.tell())

    def _window(self, records: Iterator[LoggedEvent], names: dict[bytes, str]) -> _Window:
        """The next records, without those that the window has already."""
        window = _Window()
        seen: set[bytes] = set()
        held = 0
        for logged in records:
            digest = logged.mark.digest
            if digest in seen:
                self._tally.event(logged.time_ns)
                self._tally.duplicates += 1
                continue
            seen.add(digest)
            packed = lz4.block.compress(logged.payload())
            held += len(packed)
            window.candidates.append(
                Candidate(digest, logged.mark.second, likeness(logged), names.get(digest))
            )
            window.times.append(logged.time_ns)
            window.packed.append(packed)
            if len(seen) == WINDOW or held >= WINDOW_BYTES:
                break
        return window

    def _records(
        self, path: Path, lines: Iterator[Line], fallback_ns: int
    ) -> Iterator[LoggedEvent]:
        """The event of every record; what is none is counted."""
        for line in lines:
            where = f"{path}:{line.number}"
            if line.content is None:
                self._tally.reject(where, "too_long", f"longer than {LINE_BYTES} bytes")
                continue
            if not line.content.strip():
                continue
            found = read_line(line.content)
            if found.reason is not None:
                torn = found.reason == "corrupt" and not line.ended
                self._tally.reject(where, "torn" if torn else found.reason, _shown(line.content))
            for one in found.records:
                try:
                    yield read_record(one.record, fallback_ns=fallback_ns)
                except ValueError as error:
                    self._tally.reject(where, "corrupt", str(error))

    def _bring_in(self, window: _Window) -> None:
        times = np.array(window.times, dtype=np.int64)
        days = days_of(times, self._zone)
        there = self._known.of_records(window.candidates, days)
        for position in there:
            self._tally.event(window.times[position])
        self._tally.duplicates += len(there)

        order = np.argsort(times, kind="stable").tolist()
        wanted = (position for position in order if position not in there)
        while positions := list(islice(wanted, _PUT)):
            self._events.put(
                [
                    PastEvent(
                        window.times[position], True, lz4.block.decompress(window.packed[position])
                    )
                    for position in positions
                ],
                recognise=False,
            )
        self._known.added_records(days)


def _shown(content: bytes) -> str:
    return f"{len(content)} bytes: {content[:60].decode('utf-8', 'replace')!r}"
