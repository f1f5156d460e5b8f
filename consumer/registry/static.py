"""A registry that is only what the settings say: no server, no lease."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from consumer.registry.base import JSON, DetectorEntry, KeyEntry, Registry, RegistryFacts


class StaticRegistry(Registry):
    """Answers with given detectors and keys. Listeners run on the thread that calls `replace`."""

    def __init__(
        self, detectors: Iterable[DetectorEntry] = (), keys: Iterable[KeyEntry] = ()
    ) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._detectors = _by_instance(detectors)
        self._keys = list(keys)
        self._started = False
        self._status: Mapping[str, JSON] = {}

    def start(self) -> None:
        """Nothing to reach, so nothing can fail."""
        self._started = True

    def stop(self) -> None:
        """Nothing to leave."""
        self._started = False

    def publish_status(self, status: Mapping[str, JSON], *, urgent: bool = False) -> None:  # noqa: ARG002 - the interface has it
        """Kept for `status`; nobody else can see it."""
        self._status = dict(status)

    @property
    def status(self) -> Mapping[str, JSON]:
        """The status published last."""
        return self._status

    def replace(
        self,
        *,
        detectors: Iterable[DetectorEntry] | None = None,
        keys: Iterable[KeyEntry] | None = None,
    ) -> None:
        """Take other detectors or keys, such as after the settings were read again."""
        with self._lock:
            before = (self._detectors, self._keys)
            if detectors is not None:
                self._detectors = _by_instance(detectors)
            if keys is not None:
                self._keys = list(keys)
            changed = before != (self._detectors, self._keys)
        if changed:
            self._notify()

    def detectors(self) -> list[DetectorEntry]:
        """The given detectors."""
        with self._lock:
            return list(self._detectors)

    def keys(self) -> list[KeyEntry]:
        """The given keys, in the given order."""
        with self._lock:
            return list(self._keys)

    def facts(self) -> RegistryFacts:
        """Connected from start to stop."""
        return RegistryFacts(kind="static", connected=self._started)


def _by_instance(detectors: Iterable[DetectorEntry]) -> list[DetectorEntry]:
    return sorted(detectors, key=lambda entry: entry.instance)
