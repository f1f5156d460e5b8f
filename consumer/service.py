"""The service: builds its parts, starts them, watches them, stops them in order.

Data flows down, so parts start from the bottom up (journal before reception) and stop from the
top down: reception first, then intake drains what was received into the journal, then the journal
syncs. Only then is the registry left, so that it never shows us gone while we still take events.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from types import FrameType
from typing import Any

import structlog

import consumer
from consumer.backfill.appending import feed_of
from consumer.clock import Clock, ClockSet, SystemClock
from consumer.disk import DiskRoom
from consumer.errors import (
    ConfigurationError,
    DayfoldError,
    JournalWriteError,
    QuarantineError,
)
from consumer.folding.closing import CloseRule
from consumer.folding.coordinator import Coordinator
from consumer.folding.executor import ChildProcess, FoldExecutor
from consumer.folding.installed import models_of
from consumer.folding.requests import Requests
from consumer.health import systemd
from consumer.health.status import for_registry, read_losses, write_losses, write_status
from consumer.journal import DataLock, Journal
from consumer.quarantine.quarantine import Quarantine
from consumer.reception.detectors import Discovery
from consumer.reception.intake import Intake
from consumer.reception.subscriber import Subscriber
from consumer.registry.base import Registry
from consumer.registry.choice import open_registry
from consumer.retention.age_clock import AgeClock
from consumer.retention.forget import Forgetting
from consumer.retention.retention import Retention
from consumer.retention.upkeep import Upkeep
from consumer.settings import MIB, Settings
from consumer.web.api_process import ApiProcess
from consumer.wire.admission import Admission
from consumer.wire.envelope import Envelope
from consumer.wire.keys import KeyRing
from index.catalogue import Catalogue

log = structlog.get_logger("service")

BEAT_S = 1.0
DRAIN_S = 30.0
#: Share of the hand-over that is taken when the folding child gives way.
PRESSED = 1 / 16
#: How often a batch that found no room on the disk is tried again.
ROOM_S = 0.5


class Service:
    """One running consumer. `run` blocks until a signal, a fatal error, or `ask_to_stop`.

    Args:
        settings: validated settings.
        clock: the wall clock; tests hand in their own.
        executor: where folds run; a child process unless a test says otherwise.
        reload: rereads the settings for SIGHUP, which takes over `[detector]`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        executor: FoldExecutor | None = None,
        reload: Callable[[], Settings] | None = None,
    ) -> None:
        self._settings = settings
        self._reload = reload
        self._clock = clock or SystemClock()
        self._clock_set = ClockSet(self._clock)
        self._stop_asked = threading.Event()
        self._reload_asked = threading.Event()
        self._fatal: DayfoldError | None = None
        self._state = "starting"
        self._started_ns = self._clock.now_ns()
        data_dir = settings.data.dir
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = DataLock(data_dir)
        self._disk = DiskRoom(data_dir, min_free_mb=settings.data.min_free_mb)
        self.journal = Journal(
            data_dir / "journal",
            zone=settings.day.zone,
            clock=self._clock,
            segment_bytes=settings.journal.segment_mb * MIB,
            commit_interval_s=settings.journal.commit_interval_ms / 1000,
            on_fatal=self._on_fatal,
            no_room=self._wait_for_room,
        )
        self._ring = KeyRing(self._clock, grace_s=settings.detector.key_grace_s)
        self._age_clock = AgeClock(self._clock, data_dir)
        self._quarantine = Quarantine(
            data_dir / "quarantine",
            self._age_clock,
            max_bytes=settings.quarantine.max_mb * MIB,
            max_age_days=settings.quarantine.max_age_days,
            keep_bytes=settings.quarantine.keep_mb * MIB,
        )
        self._subscriber = _subscriber(settings, self._clock)
        self._registry: Registry = open_registry(settings, self._instance(), self._clock)
        self._discovery = Discovery(settings.detector, self._registry, self._subscriber, self._ring)
        self.losses = read_losses(data_dir)
        self._admission = Admission(
            settings.day.zone,
            back_days=settings.day.back_days,
            ahead_s=settings.day.ahead_s,
            event_clock=settings.day.clock == "event",
            is_retired=self.journal.is_retired,
        )
        self._feed = feed_of(settings, self.journal, self._clock)
        self._intake = Intake(
            self._subscriber,
            self._ring,
            Envelope(
                self._ring,
                max_event_bytes=settings.subscriber.max_event_mb * MIB,
                scheme_of=settings.detector.all_profiles.scheme_of,
            ),
            self._admission,
            self.journal,
            self._quarantine,
            self.losses,
            room=self._disk.room,
            on_fatal=self._on_fatal,
            between=self._feed.step,
            now_ns=self._clock.now_ns,
            profiles=settings.detector.all_profiles,
        )
        self._executor = executor or ChildProcess(
            timeout_s=settings.fold.timeout_s, pressed=self._is_pressed
        )
        self._models = None if executor else models_of(settings.models.cache_dir)
        self._catalogue: Catalogue | None = None
        self._shown: Catalogue | None = None
        self._coordinator: Coordinator | None = None
        self._api = ApiProcess(settings) if settings.api.enabled else None

    def _instance(self) -> str:
        return self._settings.registry.instance or f"{socket.gethostname()}-{os.getpid()}"

    def _is_pressed(self) -> bool:
        """Whether so much has been received and not been taken that it might be dropped soon."""
        return self._subscriber.held_bytes > PRESSED * self._settings.subscriber.handover_mb * MIB

    def _on_fatal(self, error: DayfoldError) -> None:
        self._fatal = error
        self._stop_asked.set()

    def _wait_for_room(self, error: JournalWriteError) -> bool:
        """Let a batch wait that the disk did not take, as long as the service is to go on."""
        self._disk.refuse(str(error))
        return not self._stop_asked.wait(ROOM_S)

    def ask_to_stop(self) -> None:
        """Stop soon; returns at once. Safe from any thread and from a signal handler."""
        self._stop_asked.set()

    def install_signal_handlers(self) -> None:
        """SIGTERM and SIGINT stop; SIGHUP rereads `[detector]` and retries the quarantine."""
        signal.signal(signal.SIGTERM, self._on_stop_signal)
        signal.signal(signal.SIGINT, self._on_stop_signal)
        signal.signal(signal.SIGHUP, self._on_reload_signal)

    def _on_stop_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_asked.set()

    def _on_reload_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._reload_asked.set()

    def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            JournalLockedError: another service writes this data folder.
            JournalError: the journal failed; everything else has been stopped in order.
            StoreError: the catalogue cannot be opened.
        """
        with self._lock:
            self._start()
            try:
                while not self._stop_asked.wait(BEAT_S):
                    self._beat()
            finally:
                self._stop()
        if self._fatal is not None:
            raise self._fatal

    def _start(self) -> None:
        data_dir = self._settings.data.dir
        self._catalogue = Catalogue.open(data_dir / "catalogue.sqlite")
        # The picture is made by another thread than the coordinator's: it has its own connection.
        self._shown = Catalogue.open(data_dir / "catalogue.sqlite", read_only=True)
        self.journal.start()
        self._quarantine.cut_torn_tails()
        self._admission.watermark_ns = self.journal.watermark_ns
        upkeep = self._upkeep(self._catalogue)
        # Before the coordinator looks: a day that is half forgotten must not be taken up again.
        upkeep.forget()
        self._coordinator = Coordinator(
            self.journal,
            self._catalogue,
            self._executor,
            Requests(data_dir),
            data_dir=data_dir,
            zone=self._settings.day.zone,
            clock=self._clock,
            day_clock=self._day_clock,
            rule=CloseRule(self._settings.day.grace_s, self._settings.day.settle_s),
            fold=self._settings.fold,
            models_cache=self._settings.models.cache_dir,
            sensors=self._settings.detector.all_profiles.sensors(),
            random=random.Random(),  # noqa: S311 - jitter, not a secret
            upkeep=upkeep,
            models=self._models,
        )
        self._coordinator.catch_up()
        self._coordinator.start()
        self._intake.start()
        self._subscriber.start()
        self._registry.subscribe(self._discovery.refresh)
        self._registry.start()
        self._discovery.refresh()
        if self._api is not None:
            self._api.start()
        self._state = "running"
        self._beat()
        systemd.notify("READY=1")
        log.info("running", data=str(data_dir), instance=self._instance())

    def _upkeep(self, catalogue: Catalogue) -> Upkeep:
        data_dir, zone = self._settings.data.dir, self._settings.day.zone
        forgetting = Forgetting(
            self.journal,
            catalogue,
            self._quarantine,
            data_dir=data_dir,
            zone=zone,
            clock=self._clock,
        )
        retention = Retention(
            self._settings.retention, self.journal, catalogue, data_dir=data_dir, zone=zone
        )
        return Upkeep(forgetting, retention, catalogue, self._age_clock, data_dir=data_dir)

    def _day_clock(self) -> int | None:
        if self._settings.day.clock == "event":
            return self.journal.watermark_ns
        return self._clock.now_ns()

    def _beat(self) -> None:
        if self._reload_asked.is_set():
            self._reload_asked.clear()
            self._take_new_settings()
            self._discovery.refresh()
            self._intake.retry_quarantine()
        self._age_clock.look()
        if set_by_s := self._clock_set.look():
            log.warning("the clock was set", by_s=round(set_by_s, 3))
            # What seemed to come from the future may be of today, and a key in force again.
            self._discovery.refresh()
            self._intake.retry_quarantine()
        if turned := self._disk.measure():
            log.warning(
                "reception resumes" if self._disk.room() else "reception stops: no room",
                free_mb=self._disk.free_mb,
                min_free_mb=self._disk.min_free_mb,
                refused=self._disk.refused,
            )
        if self._api is not None:
            self._api.keep_alive()
        self._keep_quarantine()
        picture = self.picture()
        try:
            write_status(self._settings.data.dir, picture)
            write_losses(self._settings.data.dir, self.losses)
        except OSError as error:
            log.warning("status cannot be written", error=str(error))
        self._registry.publish_status(for_registry(picture), urgent=turned)
        if not picture["service"]["ended_threads"]:
            systemd.notify("WATCHDOG=1")

    def _keep_quarantine(self) -> None:
        try:
            self._quarantine.sync()
            self._quarantine.expire()
        except QuarantineError as error:
            log.error("quarantine is not durable", error=str(error))

    def _take_new_settings(self) -> None:
        if self._reload is None:
            return
        try:
            self._discovery.take_settings(self._reload().detector)
        except ConfigurationError as error:
            log.error("settings are not reloaded; the old ones stay", error=str(error))
        else:
            log.info("detectors and keys reloaded")

    def _stop(self) -> None:
        self._state = "stopping"
        systemd.notify("STOPPING=1")
        # Nothing new comes in, then what came in goes to the journal, then to the disk.
        self._subscriber.stop()
        if self._intake.alive:
            drained = self._intake.stop(DRAIN_S)
            if not drained and self._fatal is None:
                log.error("intake did not drain in time", seconds=DRAIN_S)
        # The child may be ended at any moment: its work is found again at the next start.
        if self._coordinator is not None:
            self._coordinator.stop(DRAIN_S)
        self.journal.stop()
        self._quarantine.close()
        if self._api is not None:
            self._api.stop()
        self._state = "stopped"
        picture = self.picture()
        self._registry.publish_status(for_registry(picture))
        self._registry.stop()
        for catalogue in (self._shown, self._catalogue):
            if catalogue is not None:
                catalogue.close()
        try:
            write_losses(self._settings.data.dir, self.losses)
            write_status(self._settings.data.dir, picture)
        except OSError as error:
            log.warning("status cannot be written", error=str(error))
        log.info("stopped", **self._intake.counts.to_json())

    def picture(self) -> dict[str, Any]:
        """The state of the service as `run/status.json` holds it (see `docs/status.md`)."""
        links = self._subscriber.facts(retired=True)
        coordinator = self._coordinator
        watched = {"intake": self._intake, "coordinator": coordinator}
        ended = [
            name
            for name, part in watched.items()
            if self._state == "running" and part is not None and not part.alive
        ]
        return {
            "written_ns": self._clock.now_ns(),
            "service": {
                "version": consumer.__version__,
                "instance": self._instance(),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "state": self._state,
                "started_ns": self._started_ns,
                "ended_threads": ended,
                "error": None if self._fatal is None else str(self._fatal),
                "api": None if self._api is None else self._api.address,
            },
            "registry": asdict(self._registry.facts()),
            "detectors": [
                {
                    **asdict(link),
                    "losses": asdict(self.losses.facts(link.detector)),
                    "found": self._intake.found(link.detector),
                }
                for link in links
            ],
            "keys": [held.key.key_id for held in self._ring.candidates()],
            "intake": self._intake.counts.to_json(),
            "imported": self._feed.outcome.to_json(),
            "admission": asdict(self._admission.facts()),
            "journal": {
                "appended": self.journal.appended_events,
                "durable": self.journal.durable_events,
                "watermark_ns": self.journal.watermark_ns,
                "open_days": [
                    day.isoformat() for day in self.journal.days() if self.journal.unsealed(day)
                ],
            },
            "quarantine": {
                "reasons": self._quarantine.counts(),
                "dropped": dict(self._quarantine.dropped),
            },
            "disk": self._disk.to_json(),
            "clock": {"doubted_by_s": round(self._age_clock.doubted_by_s, 1)},
            "fold": None if coordinator is None else asdict(coordinator.facts),
            "days": [] if self._shown is None else self._shown.latest_days(),
        }


def _subscriber(settings: Settings, clock: Clock) -> Subscriber:
    reception = settings.subscriber
    secret = reception.curve_secret_key
    return Subscriber(
        clock,
        handover_bytes=reception.handover_mb * MIB,
        heartbeat_ivl_ms=reception.heartbeat_ms,
        heartbeat_timeout_ms=reception.heartbeat_timeout_ms,
        grace_s=reception.disconnect_grace_s,
        curve_public=reception.curve_public_key,
        curve_secret=None if secret is None else secret.get_secret_value(),
    )
