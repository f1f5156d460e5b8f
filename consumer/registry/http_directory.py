"""What the HTTP registry has said so far: every key it handed out, detectors, components."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from consumer.registry.base import DetectorEntry, KeyEntry

log = structlog.get_logger("registry")

KeySource = Literal["encryption_key", "seed"]

# A registry that hands out a new key at each call must not grow us. The key ring keeps what goes
# from here for its grace time, and longer while it opens messages.
MAX_KEYS: Final = 64
# Enough to find a fault by.
_LISTED_FAULTS = 20
# A configuration is read once with each heartbeat, after it. A registry that restarted between the
# two is noticed by the next heartbeat, so one answer without a detector proves nothing.
_ABSENCES = 2


@dataclass(slots=True)
class _Known:
    """A detector, the registration under which it was last seen, and how often it was not since."""

    entry: DetectorEntry
    registration: int
    absences: int = 0


class HttpDirectory:
    """Keys, detectors and components as last known; safe from any thread.

    The registry keeps everything in memory and hands out one key at a time, a new one after each
    restart, while a detector goes on with the key that it has. So every key stays listed, and a
    detector that a restarted registry does not know is still believed to be where it was.

    Args:
        component: whose channel the keys open.
    """

    def __init__(self, component: str) -> None:
        self._component = component
        self._lock = threading.Lock()
        self._keys: dict[str, KeyEntry] = {}
        self._current: dict[KeySource, str] = {}
        self._handed_out = 0
        self._detectors: dict[str, _Known] = {}
        self._components: tuple[str, ...] = ()
        self._registration = 0
        self._faults: dict[str, str] = {}
        self._malformed = 0

    def registered(self) -> None:
        """We registered anew, so the registry may have forgotten everything."""
        with self._lock:
            self._registration += 1

    def take_key(self, source: KeySource, material: str) -> bool:
        """Take the key that is handed out now; "" is none. True if anything changed.

        A key that is handed out again after another becomes the newest again.
        """
        with self._lock:
            if not material or self._current.get(source) == material:
                return False
            self._current[source] = material
            entry = self._keys.pop(material, None)
            if entry is None:
                self._handed_out += 1
                entry = KeyEntry(
                    key_id=f"{source.replace('_', '-')}-{self._handed_out}",
                    component=self._component,
                    scheme="secretbox-v0",
                    material=material,
                    kind="key",
                    context="",
                )
                log.info("key found", key_id=entry.key_id, component=self._component)
            self._keys[material] = entry
            if len(self._keys) > MAX_KEYS:
                self._let_go()
            return True

    def _let_go(self) -> None:
        now = set(self._current.values())
        oldest = next(material for material in self._keys if material not in now)
        gone = self._keys.pop(oldest)
        log.warning("too many keys: the oldest is not listed any more", key_id=gone.key_id)

    def take_detector(self, name: str, entry: DetectorEntry | None) -> bool:
        """Take what the registry says of a detector; None is nothing. True if anything changed."""
        with self._lock:
            known = self._detectors.get(name)
            if entry is not None:
                self._detectors[name] = _Known(entry, self._registration)
                if known is None:
                    log.info("detector found", detector=name, endpoints=entry.endpoints)
                elif known.entry.endpoints != entry.endpoints:
                    log.info("detector moved", detector=name, endpoints=entry.endpoints)
                return known is None or known.entry != entry
            if known is None or known.registration != self._registration:
                return False
            known.absences += 1
            if known.absences < _ABSENCES:
                return False
            del self._detectors[name]
            log.info("detector gone", detector=name)
            return True

    def take_components(self, names: tuple[str, ...]) -> None:
        """Take the names of the components that are alive."""
        with self._lock:
            self._components = names

    def note(self, call: str, fault: str | None) -> None:
        """Count and keep what is wrong with the latest answer to a call; None is nothing."""
        with self._lock:
            if fault is None:
                self._faults.pop(call, None)
                return
            self._malformed += 1
            news = self._faults.get(call) != fault
            if call in self._faults or len(self._faults) < _LISTED_FAULTS:
                self._faults[call] = fault
        if news:
            log.warning("answer of the registry cannot be read", call=call, reason=fault)

    def keys(self) -> list[KeyEntry]:
        """Every key handed out in this run, the newest last."""
        with self._lock:
            return list(self._keys.values())

    def detectors(self) -> list[DetectorEntry]:
        """By name."""
        with self._lock:
            return sorted(
                (known.entry for known in self._detectors.values()),
                key=lambda entry: entry.instance,
            )

    def components(self) -> tuple[str, ...]:
        """The components that were alive when last asked."""
        with self._lock:
            return self._components

    def faults(self) -> tuple[int, dict[str, str]]:
        """Unreadable answers since the start, and the reasons of the latest, by call."""
        with self._lock:
            return self._malformed, dict(self._faults)
