"""Detector profiles: what the settings say of whom, and what the intake does with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from consumer.clock import ManualClock
from consumer.errors import ConfigurationError, UnknownKeyError
from consumer.folding.executor import FoldJob
from consumer.journal import Journal
from consumer.quarantine.quarantine import Quarantine
from consumer.reception.desks import is_logged
from consumer.reception.intake import Intake
from consumer.reception.sources import Arrival
from consumer.replay.seal import Sealer
from consumer.settings import load
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from consumer.wire.envelope import Envelope
from consumer.wire.keys import KeyRing, key_from_hex, key_from_seed
from consumer.wire.losses import LossLedger
from consumer.wire.profiles import NamedProfile, Profiles, ProfileSettings
from embed.chunk import EventBatch
from embed.features import COLUMN
from embed.sensors import PLAIN, Sensor, Sensors
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.unit.test_intake import GivenMessages

UTC = ZoneInfo("UTC")
NOON = 1_499_169_600_000_000_000  # 2017-07-04 12:00 UTC
DAY = date(2017, 7, 4)
HOUR = 3_600_000_000_000
V1 = key_from_seed("v1", bytes(32))  # test keys
V0 = key_from_hex("v0", "AB" * 32)


def event(number: int, at_ns: int = NOON, **fields: Any) -> NetworkSecurityEvent:
    made = NetworkSecurityEvent(event_id=f"e{number}", originating_node_id="n1", **fields)
    made.event_timestamp.FromNanoseconds(at_ns)
    return made


@dataclass
class Bench:
    root: Path
    profiles: Profiles

    def __post_init__(self) -> None:
        clock = ManualClock(NOON)
        self.ring = KeyRing(clock, [V1, V0])
        self.journal = Journal(
            self.root / "journal", zone=UTC, clock=clock, on_fatal=lambda error: None
        )
        self.journal.start()
        self.admission = Admission(UTC)
        self.quarantine = Quarantine(
            self.root / "quarantine", clock, max_bytes=1 << 20, max_age_days=30
        )
        self.intake = Intake(
            GivenMessages(),
            self.ring,
            Envelope(self.ring, scheme_of=self.profiles.scheme_of),
            self.admission,
            self.journal,
            self.quarantine,
            LossLedger(),
            room=lambda: True,
            on_fatal=lambda error: None,
            profiles=self.profiles,
        )

    def accept(self, detector: str, *messages: bytes) -> None:
        self.intake.accept([Arrival(detector, NOON, one) for one in messages])

    def found(self, detector: str) -> dict[str, Any]:
        found = self.intake.found(detector)
        assert found is not None
        return found


Benches = Callable[..., Bench]


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Benches]:
    made: list[Bench] = []

    def make(*named: NamedProfile, **default: Any) -> Bench:
        folder = tmp_path / str(len(made))
        made.append(Bench(folder, Profiles(ProfileSettings(**default), named)))
        return made[-1]

    yield make
    for bench in made:
        bench.journal.stop()
        bench.quarantine.close()


def settings_of(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "dayfold.toml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def test_an_entry_changes_only_the_keys_that_it_gives(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        """
        [detector.profile]
        clock = "epoch"
        missing_value = -1.0
        [[detector.profiles]]
        name = "edge-1"
        scheme = "secretbox-v0"
        ip_byte_order = "reversed"
        [[detector.profiles]]
        name = "edge-2"
        nodes = ["sniffer-a", "sniffer-b"]
        missing_value = -2.0
        """,
    )
    profiles = settings.detector.all_profiles
    edge = profiles.of("edge-1")
    assert (edge.clock, edge.scheme, edge.ip_byte_order) == ("epoch", "secretbox-v0", "reversed")
    assert profiles.of("anyone").scheme == "auto"
    assert profiles.scheme_of("edge-1") == "secretbox-v0"
    assert profiles.scheme_of("anyone") is None
    sensors = profiles.sensors()
    assert sensors.of("edge-1") == Sensor(turned=True, missing=-1.0)
    assert sensors.of("sniffer-b") == Sensor(turned=False, missing=-2.0)
    assert sensors.of("edge-2") == sensors.of("anyone") == Sensor(turned=False, missing=-1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[detector.profile]\nclock = 'bot'", "detector.profile.clock"),
        ("[detector.profile]\nendian = 'big'", "detector.profile.endian: unknown key"),
        ("[detector.profile]\nmissing_value = nan", "detector.profile.missing_value"),
        ("[[detector.profiles]]\nscheme = 'auto'", "detector.profiles.0.name"),
        ("[[detector.profiles]]\nname = 'a'\n[[detector.profiles]]\nname = 'a'", "name 'a' is in"),
        (
            "[[detector.profiles]]\nname = 'a'\n[[detector.profiles]]\nname = 'b'\nnodes = ['a']",
            "node 'a' is in two entries",
        ),
    ],
)
def test_a_profile_that_cannot_be_is_refused_with_its_key(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        settings_of(tmp_path, text)
    assert said in str(refused.value)


def test_auto_opens_both_schemes_and_tells_how_many_of_each(benches: Benches) -> None:
    bench = benches()
    v1, v0 = Sealer(V1), Sealer(V0)
    bench.accept("d", *(v1.seal(event(n).SerializeToString()) for n in range(3)))
    bench.accept("d", v0.seal(event(9).SerializeToString()))
    assert bench.found("d")["schemes"] == {"chacha20poly1305-v1": 3, "secretbox-v0": 1}
    assert bench.intake.found("never-heard-of") is None


def test_a_scheme_that_is_set_is_the_only_one_that_is_tried(benches: Benches) -> None:
    bench = benches(NamedProfile(name="old", scheme="secretbox-v0"))
    message = Sealer(V1).seal(event(1).SerializeToString())
    bench.accept("old", message)
    bench.accept("other", message)
    assert bench.intake.counts.journaled == 1
    assert bench.quarantine.counts() == {"unknown_key": 1}
    with pytest.raises(UnknownKeyError, match="none of 1 secretbox-v0 keys"):
        Envelope(bench.ring, scheme_of=bench.profiles.scheme_of).open("old", message)


@pytest.mark.parametrize(
    ("clock", "clocks"),
    [
        ("auto", {"epoch": 2, "boot": 1, "too old": 1, "none": 1}),
        ("epoch", {"epoch": 2, "boot": 1, "too old": 1, "none": 1}),
        ("boot", {"epoch": 0, "boot": 4, "too old": 0, "none": 1}),
    ],
)
def test_the_clock_of_each_event_is_counted_by_detector(
    benches: Benches, clock: str, clocks: dict[str, int]
) -> None:
    bench = benches(NamedProfile(name="d", clock=clock))
    sealer = Sealer(V1)
    times = [NOON, NOON - HOUR, 5_000 * 10**9, NOON - 1000 * HOUR, 0]
    bench.accept("d", *(sealer.seal(event(n, t).SerializeToString()) for n, t in enumerate(times)))
    bench.accept("e", sealer.seal(event(9).SerializeToString()))
    assert bench.found("d")["clocks"] == clocks
    assert bench.found("e")["clocks"]["epoch"] == 1
    assert bench.intake.counts.journaled == 6
    # The whole counts what each counts.
    assert bench.admission.facts().own_time == clocks["epoch"] + 1


def test_a_boot_clock_is_never_from_the_future(benches: Benches) -> None:
    bench = benches(NamedProfile(name="d", clock="boot"))
    message = Sealer(V1).seal(event(1, NOON + 100 * HOUR).SerializeToString())
    bench.accept("d", message)
    bench.accept("e", message)
    assert bench.intake.counts.journaled == 1
    assert bench.quarantine.counts() == {"future": 1}


@pytest.mark.parametrize("boot_clock", [False, True])
def test_in_event_clock_mode_detectors_share_the_watermark(boot_clock: bool) -> None:
    whole = Admission(UTC, event_clock=True)
    good = whole.sibling(boot_clock=False, timed_identity=True)
    other = whole.sibling(boot_clock=boot_clock, timed_identity=True)
    good.admit(event(1).SerializeToString(), None, NOON + HOUR)
    late = other.admit(event(2, 7 * 10**9).SerializeToString(), None, NOON + HOUR)
    assert isinstance(late, Admitted)
    assert (late.time_ns, late.own_time) == (NOON, False)
    assert whole.watermark_ns == NOON
    whole.watermark_ns = NOON + 1
    again = other.admit(event(3, 8 * 10**9).SerializeToString(), None, NOON + HOUR)
    assert isinstance(again, Admitted)
    assert again.time_ns == NOON + 1


def test_identity_without_time_takes_a_resent_event_for_the_same(benches: Benches) -> None:
    bench = benches(NamedProfile(name="resends", identity="node-id"))
    for detector, node in (("resends", "a"), ("plain", "b")):
        sealer = Sealer(V1)
        for at_ns in (NOON, NOON - 5):
            one = event(1, at_ns)
            one.originating_node_id = node
            bench.accept(detector, sealer.seal(one.SerializeToString()))
    assert (bench.intake.counts.journaled, bench.intake.counts.duplicates) == (3, 1)


@pytest.mark.parametrize(
    ("changes", "logged"),
    [
        ({}, False),
        ({"overall_threat_score": 0.69}, False),
        ({"overall_threat_score": 0.70}, True),
        ({"overall_threat_score": float("nan")}, False),
        ({"decision_metadata": {"score_divergence": 0.29}}, False),
        ({"decision_metadata": {"score_divergence": 0.30}}, True),
        ({"decision_metadata": {"requires_rag_analysis": True}}, True),
    ],
)
def test_logged_is_what_a_detector_would_log(changes: dict[str, Any], logged: bool) -> None:
    assert is_logged(event(1, **changes).SerializeToString()) is logged


def test_the_filter_drops_and_counts_for_its_detector_only(benches: Benches) -> None:
    bench = benches(NamedProfile(name="d", filter="logged"))
    sealer = Sealer(V1)
    loud = event(1, overall_threat_score=0.9).SerializeToString()
    quiet = event(2, overall_threat_score=0.1).SerializeToString()
    broken = b"\xff" * 40
    bench.accept("d", *(sealer.seal(one) for one in (loud, quiet, broken)))
    bench.accept("e", sealer.seal(quiet))
    counts = bench.intake.counts
    assert (counts.received, counts.journaled, counts.filtered, counts.quarantined) == (4, 2, 1, 1)
    assert (bench.found("d")["filtered"], bench.found("e")["filtered"]) == (1, 0)
    assert bench.intake.losses.facts("d").lost == 0


def test_what_waited_for_its_key_is_filtered_too(benches: Benches) -> None:
    bench = benches(filter="logged")
    late_key = key_from_seed("late", bytes([7]) * 32)
    sealer = Sealer(late_key)
    bench.accept("d", sealer.seal(event(1, overall_threat_score=0.9).SerializeToString()))
    bench.accept("d", sealer.seal(event(2).SerializeToString()))
    bench.ring.add(late_key)
    bench.intake.start()
    assert bench.intake.stop(10)
    assert (bench.intake.counts.journaled, bench.intake.counts.filtered) == (1, 1)
    assert sum(bench.quarantine.counts().values()) == 0


def test_a_fold_job_carries_the_sensors() -> None:
    sensors = Sensors(Sensor(missing=-1.0), {"n1": Sensor(turned=True)})
    job = FoldJob(Path("d"), DAY, 1, ("attack",), "UTC", None, 1, 0, 1, 1, sensors)
    assert FoldJob.from_json(job.to_json()) == job
    assert FoldJob.from_json(job.to_json()).sensors.of("n1").turned


def test_each_node_has_its_own_number_for_missing() -> None:
    events = [event(n) for n in range(3)]
    for node, one in zip(("a", "b", "c"), events, strict=True):
        one.originating_node_id = node
        one.network_features.flow_bytes_per_second = -1.0
        one.network_features.flow_packets_per_second = -9999.0
    payloads = [one.SerializeToString() for one in events]
    column = [COLUMN["flow_bytes_per_second"], COLUMN["flow_packets_per_second"]]

    def missing(sensors: Sensors) -> Any:
        batch = EventBatch.parse([NOON] * 3, payloads, sensors=sensors)
        return np.isnan(batch.features[:, column]).tolist()

    assert missing(PLAIN) == [[False, True]] * 3
    assert missing(Sensors(Sensor(missing=-1.0))) == [[True, True]] * 3
    differing = Sensors(by_node={"b": Sensor(missing=-1.0)})
    assert missing(differing) == [[False, True], [True, True], [False, True]]
