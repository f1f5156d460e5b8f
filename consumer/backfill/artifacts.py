"""The detector's artifacts: ``artifacts/YYYY-MM-DD/event_ID.pb``, and what lies beside them.

===================  ==============================================================================
file                 content
===================  ==============================================================================
event_ID.pb          the event, plain: its identity is the one that it has on the wire
event_ID.pb.enc      the same in the wire's envelope, under the key of the artifacts
event_ID.json        its record, as a line of the log has it, laid out over several lines
event_ID.json.enc    the same in the envelope
===================  ==============================================================================

Where there is an event, its record only serves to recognise its line in the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from google.protobuf.message import DecodeError

from consumer.backfill.events import PastEvent, PastEvents, past_event
from consumer.backfill.fingerprint import fingerprints
from consumer.backfill.jsonl import (
    LoggedEvent,
    is_record,
    logged_ns,
    read_record,
    record_digest,
)
from consumer.backfill.known import Candidate, KnownEvents, days_of
from consumer.backfill.layout import Artifact, ArtifactGroup
from consumer.backfill.local_time import logged_about_ns
from consumer.backfill.tally import Tally
from consumer.clock import Clock
from consumer.errors import DecompressionError, TamperedError, UnknownKeyError, UsageError
from consumer.reception.detectors import keys_from_settings
from consumer.settings import KeySettings
from consumer.wire.admission import YEAR_2000_NS
from consumer.wire.envelope import MIB, Envelope
from consumer.wire.keys import ARTIFACT_CONTEXT, Key, KeyRing, key_from_seed

#: How much larger than the largest event its file may be.
_ENVELOPE_BYTES = MIB


class ArtifactError(Exception):
    """An artifact that cannot be used. Stays inside this package."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def artifact_keys(seed_file: Path | None, settings: Iterable[KeySettings]) -> list[Key]:
    """Keys of the artifacts: from a seed file, and from the seeds and keys of the settings.

    Raises:
        UsageError: the seed file cannot be read or is not 32 bytes long.
        ConfigurationError: a key file of the settings cannot be used.
    """
    keys = keys_from_settings(
        entry.model_copy(update={"context": ARTIFACT_CONTEXT}) for entry in settings
    )
    if seed_file is not None:
        try:
            seed = seed_file.read_bytes()
        except OSError as error:
            raise UsageError(f"{seed_file}: cannot be read: {error.strerror}") from error
        if len(seed) != 32:
            raise UsageError(f"{seed_file}: {len(seed)} bytes; a seed has exactly 32")
        keys.append(key_from_seed("seed-file", seed, ARTIFACT_CONTEXT))
    return keys


class ArtifactReader:
    """Reads the files of artifacts, opening those that are sealed."""

    def __init__(self, keys: Iterable[Key], *, clock: Clock, max_event_bytes: int) -> None:
        self._envelope = Envelope(KeyRing(clock, keys), max_event_bytes=max_event_bytes)
        self._limit = max_event_bytes

    def event(self, path: Path) -> bytes:
        """The payload of an event. Raises ArtifactError."""
        return self._open(path)

    def record(self, path: Path) -> dict[str, Any]:
        """A record. Raises ArtifactError."""
        try:
            record = json.loads(self._open(path).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ArtifactError("corrupt", f"not JSON: {error}") from error
        if not is_record(record):
            raise ArtifactError("not_a_record", "JSON, but not a record of a detector")
        return dict(record)

    def _open(self, path: Path) -> bytes:
        try:
            if path.stat().st_size > self._limit + _ENVELOPE_BYTES:
                raise ArtifactError("too_long", f"more than {self._limit} bytes")
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactError("unreadable", str(error)) from error
        if path.suffix != ".enc":
            return content
        try:
            return self._envelope.open("artifacts", content).payload
        except UnknownKeyError as error:
            raise ArtifactError(
                "unknown_key",
                f"no key opens it ({len(content)} bytes): give the deployment's seed.bin with "
                "--seed-file",
            ) from error
        except TamperedError as error:
            raise ArtifactError("tampered", str(error)) from error
        except DecompressionError as error:
            raise ArtifactError("decompression", str(error)) from error


class RecordNames:
    """Which event a record is of, where artifacts tell both, for the days that are under way."""

    def __init__(self) -> None:
        self._by_day: dict[date | None, dict[bytes, str]] = {}

    def add(self, day: date | None, digest: bytes, event_id: str) -> None:
        """Note the record of an event, by the folder's day."""
        self._by_day.setdefault(day, {})[digest] = event_id

    def for_log(self, day: date | None) -> dict[bytes, str]:
        """The records that the log of a day may hold. Earlier days are forgotten."""
        if day is None:
            return dict(self._by_day.get(None, {}))
        for known in [known for known in self._by_day if known is not None and known < day]:
            del self._by_day[known]
        following = self._by_day.get(day + timedelta(days=1), {})
        return self._by_day.get(None, {}) | self._by_day.get(day, {}) | following


class ArtifactImport:
    """Brings in groups of artifacts.

    Args:
        zone: of the days of the journal.
        local: of the dates in names.
    """

    def __init__(
        self,
        reader: ArtifactReader,
        events: PastEvents,
        known: KnownEvents,
        tally: Tally,
        names: RecordNames,
        *,
        zone: ZoneInfo,
        local: ZoneInfo,
    ) -> None:
        self._reader = reader
        self._events = events
        self._known = known
        self._tally = tally
        self._names = names
        self._zone = zone
        self._local = local

    def run(self, group: ArtifactGroup) -> None:
        """Put a group's events into the sink. Raises as `PastEvents.put` does."""
        if group.artifacts[0].event is not None:
            self._whole_events(group)
        else:
            self._records(group)

    def _whole_events(self, group: ArtifactGroup) -> None:
        events: list[PastEvent] = []
        for artifact in group.artifacts:
            if artifact.event is None:
                continue
            record = self._record_beside(artifact)
            if record is not None:
                self._names.add(group.day, record_digest(record), artifact.event_id)
            try:
                payload = self._reader.event(artifact.event)
                written = None if record is None else logged_ns(record)
                if written is None or written <= YEAR_2000_NS:
                    written = logged_about_ns(artifact.event, group.day, self._local)
                events.append(past_event(payload, written))
            except ArtifactError as error:
                self._tally.reject(str(artifact.event), error.reason, str(error))
            except OSError as error:
                self._tally.reject(str(artifact.event), "unreadable", str(error))
            except DecodeError:
                detail = f"{len(payload)} bytes, not a protobuf message of this schema"
                self._tally.reject(str(artifact.event), "schema", detail)
        self._events.put(events)

    def _record_beside(self, artifact: Artifact) -> dict[str, Any] | None:
        """The record of a whole event. It only helps, so a bad one is passed over."""
        if artifact.record is None:
            return None
        try:
            record = self._reader.record(artifact.record)
            record_digest(record)
        except (ArtifactError, ValueError):
            return None
        return record

    def _records(self, group: ArtifactGroup) -> None:
        logged: dict[bytes, LoggedEvent] = {}
        for artifact in group.artifacts:
            if artifact.record is None:
                continue
            try:
                fallback = logged_about_ns(artifact.record, group.day, self._local)
                event = read_record(
                    self._reader.record(artifact.record),
                    fallback_ns=fallback,
                    event_id=artifact.event_id,
                )
            except ArtifactError as error:
                self._tally.reject(str(artifact.record), error.reason, str(error))
            except OSError as error:
                self._tally.reject(str(artifact.record), "unreadable", str(error))
            except ValueError as error:
                self._tally.reject(str(artifact.record), "corrupt", str(error))
            else:
                if event.mark.digest in logged:
                    self._tally.event(event.time_ns)
                    self._tally.duplicates += 1
                else:
                    logged[event.mark.digest] = event
        self._put_records(list(logged.values()))

    def _put_records(self, logged: list[LoggedEvent]) -> None:
        times = np.array([event.time_ns for event in logged], dtype=np.int64)
        days = days_of(times, self._zone)
        candidates = [
            Candidate(event.mark.digest, event.mark.second, likeness(event), event.event.event_id)
            for event in logged
        ]
        there = self._known.of_records(candidates, days)
        for position in there:
            self._tally.event(logged[position].time_ns)
            self._tally.duplicates += 1
        self._events.put(
            [
                PastEvent(event.time_ns, True, event.payload())
                for position, event in enumerate(logged)
                if position not in there
            ],
            recognise=False,
        )
        self._known.added_records(days)


def likeness(event: LoggedEvent) -> bytes:
    """The fingerprint by which the event behind a record is searched."""
    full, core = fingerprints(event.event, event.mark.second)
    return full if event.mark.detailed else core
