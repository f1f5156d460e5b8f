"""What is known of detectors and keys: the last readable value of each, kept while it is away."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from consumer.registry.base import DetectorEntry, KeyEntry
from consumer.registry.entries import Layout, MalformedError, Place, read_detector, read_key

log = structlog.get_logger("registry")

# Enough to find a fault by; more would let a flood of bad values grow us.
_LISTED_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One key of the registry that was written at `revision`, or deleted if `value` is None."""

    key: str
    revision: int
    value: bytes | None = field(repr=False)


class Directory:
    """Detectors and keys, from listings and changes; safe from any thread.

    A value that cannot be read is counted and leaves the last readable one in force.

    Args:
        layout: where values are on the registry.
        component: the component whose instances are the detectors.
    """

    def __init__(self, layout: Layout, component: str) -> None:
        self._layout = layout
        self._component = component
        self._lock = threading.Lock()
        self._detectors: dict[str, DetectorEntry] = {}
        self._keys: dict[str, tuple[int, KeyEntry]] = {}
        self._faults: dict[str, tuple[int, str]] = {}
        self._malformed = 0

    def replace(self, prefix: str, listing: Iterable[Change]) -> bool:
        """Take a whole listing of `prefix`: what is not in it is gone. True if anything changed."""
        changes = list(listing)
        present = {change.key for change in changes}
        with self._lock:
            known = {*self._detectors, *self._keys, *self._faults}
            gone = [key for key in known if key.startswith(prefix) and key not in present]
            changed = [self._drop(key) for key in sorted(gone)]
            changed += [self._take(change) for change in changes]
        return any(changed)

    def apply(self, changes: Iterable[Change]) -> bool:
        """Take changes in their order. True if anything changed."""
        with self._lock:
            changed = [self._take(change) for change in changes]
        return any(changed)

    def detectors(self) -> list[DetectorEntry]:
        """By instance name."""
        with self._lock:
            return sorted(self._detectors.values(), key=lambda entry: entry.instance)

    def keys(self) -> list[KeyEntry]:
        """In the order in which they were last written."""
        with self._lock:
            return [entry for _, entry in sorted(self._keys.values(), key=lambda pair: pair[0])]

    def faults(self) -> tuple[int, dict[str, str]]:
        """Unreadable values since the start, and the reasons of those that are there now, by key.

        At most twenty reasons are kept.
        """
        with self._lock:
            return self._malformed, {key: reason for key, (_, reason) in self._faults.items()}

    def _take(self, change: Change) -> bool:
        place = self._layout.locate(change.key)
        if place is None:
            return False
        if change.value is None:
            return self._drop(change.key)
        try:
            changed, fault = self._read(place, change.key, change.value, change.revision)
        except MalformedError as error:
            changed, fault = False, str(error)
        self._note_fault(change, fault)
        return changed

    def _read(self, place: Place, key: str, value: bytes, revision: int) -> tuple[bool, str | None]:
        if place.kind == "key":
            return self._take_key(key, revision, read_key(place.component, place.name, value)), None
        if place.component != self._component:
            return False, None
        entry, fault = read_detector(place.name, value)
        return self._take_detector(key, entry), fault

    def _take_detector(self, key: str, entry: DetectorEntry) -> bool:
        before = self._detectors.get(key)
        self._detectors[key] = entry
        if before is None:
            log.info("detector found", detector=entry.instance, endpoints=entry.endpoints)
        elif before.endpoints != entry.endpoints:
            log.info("detector moved", detector=entry.instance, endpoints=entry.endpoints)
        return before != entry

    def _take_key(self, key: str, revision: int, entry: KeyEntry) -> bool:
        _, before = self._keys.get(key, (0, None))
        self._keys[key] = (revision, entry)
        if before is None:
            log.info("key found", key_id=entry.key_id, component=entry.component)
        elif before != entry:
            log.info("key changed", key_id=entry.key_id, component=entry.component)
        return before != entry

    def _drop(self, key: str) -> bool:
        self._faults.pop(key, None)
        detector = self._detectors.pop(key, None)
        if detector is not None:
            log.info("detector gone", detector=detector.instance)
        _, held = self._keys.pop(key, (0, None))
        if held is not None:
            log.info("key gone", key_id=held.key_id, component=held.component)
        return detector is not None or held is not None

    def _note_fault(self, change: Change, reason: str | None) -> None:
        if reason is None:
            self._faults.pop(change.key, None)
            return
        known = self._faults.get(change.key)
        # A listing shows a value again that was counted when it was written.
        if known is not None and known[0] == change.revision:
            return
        self._malformed += 1
        log.warning("value on the registry cannot be read", key=change.key, reason=reason)
        if known is not None or len(self._faults) < _LISTED_FAULTS:
            self._faults[change.key] = (change.revision, reason)
