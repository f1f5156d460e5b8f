"""Runs the backfill commands, here or as a process, and reads back what the journal holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

import typer
from typer.testing import CliRunner

from consumer.backfill.appending import Appender, SpoolFeed
from consumer.backfill.known import read_day
from consumer.backfill.spool import FOLDER
from consumer.clock import Clock, SystemClock
from consumer.commands import backfill
from consumer.errors import DayfoldError
from consumer.health.status import write_status
from consumer.journal import DataLock, Journal
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from consumer.wire.identity import identity_digest
from consumer.wire.profiles import Profiles
from proto.network_security_pb2 import NetworkSecurityEvent

TOP = Path(__file__).resolve().parents[1]
UTC = ZoneInfo("UTC")

app = typer.Typer()
backfill.register(app)


@dataclass(frozen=True)
class Site:
    """A data folder and its settings."""

    folder: Path
    timezone: str = "UTC"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DAYFOLD_DATA__DIR": str(self.data),
            "DAYFOLD_DATA__MIN_FREE_MB": "1",
            "DAYFOLD_DAY__TIMEZONE": self.timezone,
            "DAYFOLD_LOG__LEVEL": "error",
        }

    def run(self, *arguments: object, code: int = 0) -> Any:
        """A command in this process; its JSON answer."""
        done = CliRunner().invoke(
            app, [*map(str, arguments), "--json"], env=self.environment, catch_exceptions=False
        )
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.backfill_kit", *map(str, arguments), "--json"],
            env={**os.environ, **self.environment},
            cwd=TOP,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def journal(self, clock: Clock | None = None) -> Journal:
        """The journal of the site, not started."""
        return Journal(
            self.data / "journal",
            zone=ZoneInfo(self.timezone),
            clock=clock or SystemClock(),
            on_fatal=lambda _error: None,
        )

    def events(self) -> dict[date, list[NetworkSecurityEvent]]:
        """What the journal holds, day by day, in its order."""
        days: dict[date, list[NetworkSecurityEvent]] = {}
        root = self.data / "journal"
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            if folder.is_dir():
                day = date.fromisoformat(folder.name)
                found = [NetworkSecurityEvent.FromString(r.payload) for r in read_day(root, day)]
                if found:
                    days[day] = found
        return days

    def counts(self) -> dict[date, int]:
        return {day: len(events) for day, events in self.events().items()}

    def identities(self) -> Counter[bytes]:
        return Counter(identity(e) for events in self.events().values() for e in events)

    def receive(self, events: Iterable[NetworkSecurityEvent]) -> None:
        """Journal events as the live stream does when its event times are believed."""
        admission = Admission(ZoneInfo(self.timezone), event_clock=True)
        admitted = []
        for event in events:
            time_ns = event.event_timestamp.ToNanoseconds()
            done = admission.admit(event.SerializeToString(), None, time_ns)
            assert isinstance(done, Admitted)
            admitted.append(done)
        self.data.mkdir(parents=True, exist_ok=True)
        journal = self.journal()
        journal.start()
        try:
            for start in range(0, len(admitted), 500):
                journal.append(admitted[start : start + 500])
        finally:
            journal.stop()


def identity(event: NetworkSecurityEvent) -> bytes:
    stamp = event.event_timestamp
    return identity_digest(
        event.originating_node_id, event.event_id, stamp.seconds * 10**9 + stamp.nanos
    )


class ServiceAtWork:
    """The two sides of a service that an import sees: its picture, and its intake at the spool."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.journal = site.journal()
        self.clock = SystemClock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: DayfoldError | None = None
        #: Cleared, the spool is left as it is.
        self.working = threading.Event()
        self.working.set()

    def __enter__(self) -> Self:
        self.site.data.mkdir(parents=True, exist_ok=True)
        self._lock = DataLock(self.site.data)
        self._lock.__enter__()
        self.journal.start()
        self._show("running")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._show("stopped")
        self.journal.stop()
        self._lock.__exit__(kind, error, trace)
        if self._error is not None:
            raise self._error

    def _show(self, state: str) -> None:
        service = {"state": state, "pid": os.getpid()}
        picture = {"written_ns": self.clock.now_ns(), "service": service}
        write_status(self.site.data, picture)

    def _run(self) -> None:
        appender = Appender(
            self.journal,
            self.site.data,
            zone=ZoneInfo(self.site.timezone),
            ahead_s=300,
            clock=self.clock,
            profiles=Profiles(),
        )
        feed = SpoolFeed(
            self.site.data / FOLDER, appender, sync=self.journal.sync, clock=self.clock
        )
        try:
            while not self._stopping.is_set():
                if not self.working.is_set() or not feed.step():
                    self._stopping.wait(0.01)
                    self._show("running")
        except DayfoldError as error:
            self._error = error


if __name__ == "__main__":
    app()
