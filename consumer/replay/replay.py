"""A whole replay: read a recording, seal its events, publish them at a pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Protocol

from consumer.clock import Clock
from consumer.days import NS_PER_SECOND
from consumer.errors import UsageError
from consumer.replay.publisher import DETECTOR_SNDHWM, Publisher
from consumer.replay.recordings import RecordedEvent, read_recording
from consumer.replay.seal import Sealer
from consumer.wire.keys import Key

PROGRESS_EVERY: Final = 500
_NAP_S: Final = 0.05
# No sleep is as short as this; an event due so soon is sent at once.
_DUE_S: Final = 20e-6


class Announcer(Protocol):
    """Tells others where the replay publishes: an entry on a registry, for instance."""

    def start(self, endpoint: str) -> None:
        """Called once the socket is bound, before subscribers are waited for."""

    def stop(self) -> None:
        """Called once it is over, even if the replay failed or `start` did."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to publish, where and how fast.

    Attributes:
        source: the recording (see `consumer.replay.recordings`).
        bind: endpoint to bind; port 0 or ``*`` picks a free one.
        key: seals the events, and says in which scheme.
        rate: events per second; None for no limit.
        speed: multiple of the recorded time; None for no limit. Not together with ``rate``.
        days: only events of these UTC days.
        limit: at most so many events.
        node: sensor that the events come from; None: see `read_recording`.
        seed: of the simulated verdicts.
        start_counter: first v1 nonce counter. A detector that restarts begins at 0 again.
        wait_for_subscribers: publish only when so many subscriptions are open.
        subscriber_timeout_s: how long to wait for them.
        high_water_mark: messages queued for each subscriber.
        lossy: drop at the high-water mark, as a detector does, or wait.
        linger_s: how long, at the end, queued messages are still sent.

    Raises:
        UsageError: rate and speed together, or a number that makes no sense.
    """

    source: Path
    bind: str
    key: Key
    rate: float | None = None
    speed: float | None = None
    days: frozenset[date] | None = None
    limit: int | None = None
    node: str | None = None
    seed: int = 0
    start_counter: int = 0
    wait_for_subscribers: int = 0
    subscriber_timeout_s: float = 30.0
    high_water_mark: int = DETECTOR_SNDHWM
    lossy: bool = True
    linger_s: float = 10.0

    def __post_init__(self) -> None:
        if self.rate is not None and self.speed is not None:
            raise UsageError("rate and speed exclude each other: give one of them")
        for name, value in (("rate", self.rate), ("speed", self.speed)):
            if value is not None and not value > 0:
                raise UsageError(f"{name} = {value:g}: must be above 0")
        for name, count in (("limit", self.limit), ("start_counter", self.start_counter)):
            if count is not None and count < 0:
                raise UsageError(f"{name} = {count}: must not be negative")


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What was done.

    Attributes:
        published: messages given to the socket; it may have dropped some of them.
        seconds: from the first message to the last.
        rate: events per second over that time.
        stopped: whether the replay was stopped before its end.
    """

    published: int
    seconds: float
    rate: float
    stopped: bool


class Replay:
    """A detector stand-in. Make it, `run` it once; `stop` from anywhere ends it early.

    Args:
        options: what to publish.
        clock: paces the events.
        announcer: told the endpoint before the first message, and when it is over.
        on_progress: called now and then with the number published so far.
        messages: already sealed messages (see `presealed`) to publish instead of the source.
        sleep: how to wait.
    """

    def __init__(
        self,
        options: ReplayOptions,
        clock: Clock,
        *,
        announcer: Announcer | None = None,
        on_progress: Callable[[int], None] | None = None,
        messages: Iterable[bytes] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._clock = clock
        self._announcer = announcer
        self._on_progress = on_progress
        self._messages = messages
        self._sleep = sleep
        # A plain flag, not an event with a lock: a signal handler may set it.
        self._stopping = False

    def stop(self) -> None:
        """Ask `run` to end after the event at hand. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> ReplayReport:
        """Publish everything, then wait until it is sent.

        Raises:
            UsageError: the source or the endpoint cannot be used.
            UnreachableError: the port is taken, or subscribers did not come in time.
        """
        options = self._options
        publisher = Publisher(
            self._clock,
            options.bind,
            high_water_mark=options.high_water_mark,
            lossy=options.lossy,
            sleep=self._sleep,
        )
        endpoint = publisher.start()
        try:
            if self._announcer is not None:
                self._announcer.start(endpoint)
            publisher.wait_for_subscribers(
                options.wait_for_subscribers, options.subscriber_timeout_s, self._asked_to_stop
            )
            return self._publish(publisher)
        finally:
            publisher.stop(options.linger_s)
            if self._announcer is not None:
                self._announcer.stop()

    def _publish(self, publisher: Publisher) -> ReplayReport:
        published = 0
        began = self._clock.monotonic()
        for due_s, message in self._sealed():
            if not self._wait_until(began + due_s):
                break
            if not publisher.publish(message, self._asked_to_stop):
                break
            published += 1
            if self._on_progress is not None and published % PROGRESS_EVERY == 0:
                self._on_progress(published)
        seconds = self._clock.monotonic() - began
        if self._on_progress is not None:
            self._on_progress(published)
        rate = published / seconds if seconds > 0 else 0.0
        return ReplayReport(published, seconds, rate, self._stopping)

    def _sealed(self) -> Iterator[tuple[float, bytes]]:
        """Each message with the seconds after the start at which it is due."""
        options = self._options
        interval_s = 0.0 if options.rate is None else 1.0 / options.rate
        if self._messages is not None:
            for index, message in enumerate(self._messages):
                yield index * interval_s, message
            return
        sealer = Sealer(options.key, counter=options.start_counter)
        first_ns: int | None = None
        for index, (time_ns, payload) in enumerate(_events(options)):
            due_s = index * interval_s
            if options.speed is not None and time_ns is not None:
                first_ns = time_ns if first_ns is None else first_ns
                due_s = (time_ns - first_ns) / NS_PER_SECOND / options.speed
            # Sealing advances the counter, so that a message that the socket drops leaves a gap.
            yield due_s, sealer.seal(payload)

    def _wait_until(self, due: float) -> bool:
        """Sleep until ``due``, in naps, so that a stop is noticed. False if it came to that."""
        while not self._stopping:
            left_s = due - self._clock.monotonic()
            if left_s <= _DUE_S:
                return True
            self._sleep(min(left_s, _NAP_S))
        return False

    def _asked_to_stop(self) -> bool:
        return self._stopping


def presealed(options: ReplayOptions, *, copies: int = 1) -> list[bytes]:
    """The messages of a replay, sealed in memory, for rates that sealing would hold back.

    Args:
        options: source, key, days, limit, seed and start_counter are used. Pace is not.
        copies: so many times the recording, each from a node of its own (``node-0``, ``node-1``,
            ...), so that no event is a duplicate. The counter runs through.

    Raises:
        UsageError: the source cannot be used.
    """
    sealer = Sealer(options.key, counter=options.start_counter)
    if copies == 1:
        return [sealer.seal(event.payload) for event in _events(options)]
    node = options.node or "replay"
    return [
        sealer.seal(event.payload)
        for copy in range(copies)
        for event in _events(options, node=f"{node}-{copy}")
    ]


def _events(options: ReplayOptions, *, node: str | None = None) -> Iterator[RecordedEvent]:
    return read_recording(
        options.source,
        node=node or options.node,
        days=options.days,
        limit=options.limit,
        seed=options.seed,
        newer=options.key.scheme == "chacha20poly1305-v1",
    )
