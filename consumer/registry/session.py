"""One stretch of working contact with one etcd member, from connect to the first failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

import structlog

from consumer.errors import RegistryError
from consumer.registry.client import EtcdConnection
from consumer.registry.directory import Directory
from consumer.registry.lease import Registration
from consumer.registry.watch import Watch, WatchReport

log = structlog.get_logger("registry")

Wish = Literal["write", "end"]


@dataclass(frozen=True, slots=True)
class SessionHooks:
    """What a session tells its owner, on the owner's thread.

    Attributes:
        connected: registered, listed and watching.
        beat: a heartbeat in its turn succeeded.
        reread: detectors and keys were listed whole.
        changed: detectors or keys changed.
    """

    connected: Callable[[], None]
    beat: Callable[[], None]
    reread: Callable[[], None]
    changed: Callable[[], None]


class Session:
    """Registers, lists, watches and keeps the lease alive over one connection.

    Args:
        connection: to the member; the owner closes it.
        registration: our value and lease.
        directory: where what is found goes.
        prefixes: what to list and watch; may be empty.
        heartbeat_s: seconds between two heartbeats.
        hooks: what to tell the owner.
    """

    def __init__(
        self,
        connection: EtcdConnection,
        registration: Registration,
        directory: Directory,
        prefixes: tuple[str, ...],
        *,
        heartbeat_s: float,
        hooks: SessionHooks,
    ) -> None:
        self._connection = connection
        self._registration = registration
        self._directory = directory
        self._prefixes = prefixes
        self._heartbeat_s = heartbeat_s
        self._hooks = hooks
        self._inbox: SimpleQueue[WatchReport | Wish] = SimpleQueue()
        self._watch: Watch | None = None
        self._resumed = False
        self._write_asked = False

    def ask(self, wish: Wish) -> None:
        """Have the value written at once, or the session ended. From any thread."""
        if wish == "write":
            # One write carries the latest value, however often it is asked for.
            if self._write_asked:
                return
            self._write_asked = True
        self._inbox.put(wish)

    def run(self) -> None:
        """Work until asked to end.

        Raises:
            RegistryError: the member, or the way to it, failed.
        """
        try:
            self._registration.renew(self._connection)
            self._reread()
            self._hooks.connected()
            self._serve()
        finally:
            if self._watch is not None:
                self._watch.close()

    def _serve(self) -> None:
        # Real time, not the clock handed in: the server's leases run on real time.
        due = time.monotonic() + self._heartbeat_s
        while True:
            try:
                item = self._inbox.get(timeout=max(0.0, due - time.monotonic()))
            except Empty:
                self._beat()
                self._resumed = False
                due = time.monotonic() + self._heartbeat_s
                continue
            if item == "end":
                return
            if item == "write":
                self._write_asked = False
                self._registration.write(self._connection)
            elif item.watch is self._watch:
                self._take(item)
            # A stream of changes without a pause must not starve the heartbeat.
            if time.monotonic() >= due:
                self._beat()
                due = time.monotonic() + self._heartbeat_s

    def _beat(self) -> None:
        if self._registration.renew(self._connection):
            # Who lost its lease was cut off or frozen, or the server lost its data.
            self._reread()
        self._hooks.beat()

    def _take(self, report: WatchReport) -> None:
        if report.ended is None:
            if self._directory.apply(report.changes):
                self._hooks.changed()
        elif report.compacted:
            log.info("the watch fell behind a compaction", endpoint=self._connection.endpoint)
            self._reread()
        elif report.established and not self._resumed:
            # Once per heartbeat: a server that ends stream after stream is a failure.
            self._resumed = True
            self._resume(report.watch.progress())
        else:
            raise RegistryError(f"etcd at {self._connection.endpoint}: watch: {report.ended}")

    def _resume(self, starts: dict[str, int]) -> None:
        watch = self._watch
        # A lost lease reads and watches all anew.
        self._beat()
        if self._watch is watch:
            self._follow(starts)

    def _reread(self) -> None:
        if not self._prefixes:
            return
        starts: dict[str, int] = {}
        changed = False
        for prefix in self._prefixes:
            listing = self._connection.read(prefix)
            changed |= self._directory.replace(prefix, listing.items)
            starts[prefix] = listing.revision + 1
        self._follow(starts)
        self._hooks.reread()
        if changed:
            self._hooks.changed()

    def _follow(self, starts: dict[str, int]) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch = self._connection.watch(starts, self._inbox.put)
