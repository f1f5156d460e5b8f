"""Pace, counters and order of a replay, on a clock that moves only when the replay sleeps."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from consumer.clock import ManualClock
from consumer.errors import UnreachableError, UsageError
from consumer.replay.build_sample import SAMPLE
from consumer.replay.recordings import read_recording
from consumer.replay.replay import Replay, ReplayOptions, ReplayReport, presealed
from consumer.wire.envelope import Envelope, Key, KeyRing, Opened, Scheme
from proto.network_security_pb2 import NetworkSecurityEvent

LOOPBACK = "tcp://127.0.0.1:0"
KEYS: dict[Scheme, Key] = {
    "chacha20poly1305-v1": Key("k", "chacha20poly1305-v1", b"k" * 32),
    "secretbox-v0": Key("k", "secretbox-v0", b"k" * 32),
}


def _options(scheme: Scheme = "chacha20poly1305-v1", **options: Any) -> ReplayOptions:
    return ReplayOptions(SAMPLE, LOOPBACK, KEYS[scheme], **({"limit": 100} | options))


def _run(options: ReplayOptions, **more: Any) -> ReplayReport:
    clock = ManualClock()
    return Replay(options, clock, sleep=clock.advance, **more).run()


def _opened(messages: list[bytes], scheme: Scheme = "chacha20poly1305-v1") -> list[Opened]:
    envelope = Envelope(KeyRing(ManualClock(), [KEYS[scheme]]))
    return [envelope.open("d", message) for message in messages]


def test_a_rate_is_kept() -> None:
    report = _run(_options(rate=50.0))
    assert report.published == 100
    assert report.seconds == pytest.approx(99 / 50, abs=1e-4)


def test_recorded_time_runs_at_a_multiple() -> None:
    times = [event.time_ns or 0 for event in read_recording(SAMPLE, limit=100)]
    report = _run(_options(speed=60.0))
    assert report.seconds == pytest.approx((times[-1] - times[0]) / 1e9 / 60, abs=1e-4)


def test_without_a_pace_nothing_waits() -> None:
    assert _run(_options()).seconds == 0


def test_a_stop_ends_the_replay_at_the_event_at_hand() -> None:
    clock = ManualClock()
    replay = Replay(_options(rate=10.0), clock, sleep=lambda _: stop_at_two())

    def stop_at_two() -> None:
        clock.advance(0.05)
        if clock.monotonic() >= 2:
            replay.stop()

    report = replay.run()
    assert report.stopped
    assert report.published == 20


def test_progress_ends_with_what_was_published() -> None:
    seen: list[int] = []
    report = _run(_options(limit=1234), on_progress=seen.append)
    assert seen == [500, 1000, 1234]
    assert report.published == 1234


def test_given_messages_are_published_instead_of_the_source() -> None:
    assert _run(_options(rate=10.0), messages=[b"a", b"b", b"c"]).published == 3


class _Announcer:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, endpoint: str) -> None:
        self.calls.append(f"start {endpoint.rpartition(':')[0]}")
        assert int(endpoint.rpartition(":")[2]) > 0

    def stop(self) -> None:
        self.calls.append("stop")


def test_the_announcer_is_told_where_and_when_it_is_over() -> None:
    announcer = _Announcer()
    _run(_options(), announcer=announcer)
    assert announcer.calls == ["start tcp://127.0.0.1", "stop"]


def test_subscribers_that_do_not_come_are_an_error_and_the_announcer_is_told() -> None:
    announcer = _Announcer()
    with pytest.raises(UnreachableError, match="0 of 1 subscribers joined"):
        _run(_options(wait_for_subscribers=1, subscriber_timeout_s=5), announcer=announcer)
    assert announcer.calls[-1] == "stop"


def test_a_stop_ends_the_wait_for_subscribers() -> None:
    clock = ManualClock()
    replay = Replay(_options(wait_for_subscribers=1), clock, sleep=lambda _: replay.stop())
    report = replay.run()
    assert (report.published, report.stopped) == (0, True)


@pytest.mark.parametrize("scheme", sorted(KEYS))
def test_presealed_messages_open_to_the_recording(scheme: Scheme) -> None:
    newer = scheme == "chacha20poly1305-v1"
    opened = _opened(presealed(_options(scheme)), scheme)
    assert [message.payload for message in opened] == [
        event.payload for event in read_recording(SAMPLE, limit=100, newer=newer)
    ]


def test_counters_begin_where_they_are_told_to() -> None:
    counters = [message.counter for message in _opened(presealed(_options(start_counter=7)))]
    assert counters == list(range(7, 107))


def test_presealed_copies_hold_no_event_twice_and_count_through() -> None:
    opened = _opened(presealed(_options(), copies=3))
    events = [NetworkSecurityEvent.FromString(message.payload) for message in opened]
    assert len({(event.originating_node_id, event.event_id) for event in events}) == 300
    assert [message.counter for message in opened] == list(range(300))


def test_chosen_days_alone_are_sealed() -> None:
    options = _options(days=frozenset({date(2017, 7, 5)}), limit=None)
    assert len(presealed(options)) == 2270


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 5.0, "speed": 2.0},
        {"rate": 0.0},
        {"speed": -1.0},
        {"limit": -1},
        {"rate": float("nan")},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        _options(**options)


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    options = ReplayOptions(tmp_path / "absent.parquet", LOOPBACK, KEYS["secretbox-v0"])
    with pytest.raises(UsageError, match="no such file"):
        _run(options)


@pytest.mark.parametrize("bind", ["127.0.0.1:5572", "tcp://127.0.0.1", "tcp://192.0.2.1:5572"])
def test_an_endpoint_that_cannot_be_bound_is_refused(bind: str) -> None:
    with pytest.raises(UsageError, match="cannot bind here"):
        _run(ReplayOptions(SAMPLE, bind, KEYS["secretbox-v0"], limit=1))
