"""What a detector kept gives the same days as its live stream did, each event once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consumer.backfill.importer import Importer, ImportOptions
from consumer.backfill.layout import plan
from consumer.backfill.writer import open_sink
from consumer.care.offline import OfflineDays
from consumer.clock import SystemClock
from consumer.errors import UsageError
from consumer.replay.build_sample import SAMPLE
from consumer.retention.forget import ask_to_forget
from consumer.settings import DataSettings, DetectorSettings, Settings
from consumer.wire.profiles import NamedProfile
from index.catalogue import Catalogue
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.backfill_kit import Site, identity
from tests.detector_layout import SEED, DetectorLayout, Kind, line_of, record_of
from tests.embed_samples import sample

EVENTS = [event for _, event in sample()[::60]]
NOON = 1_499_169_600  # 2017-07-04 12:00 UTC


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def live(tmp_path: Path) -> Site:
    """The same events, received."""
    made = Site(tmp_path / "live")
    made.receive(EVENTS)
    return made


def layout(tmp_path: Path, *kinds: Kind, lines: bool = True, zone: str = "UTC") -> DetectorLayout:
    made = DetectorLayout(tmp_path / "detector", ZoneInfo(zone), kinds, lines)
    made.write(EVENTS)
    return made


def seed_file(tmp_path: Path) -> Path:
    path = tmp_path / "seed.bin"
    path.write_bytes(SEED)
    return path


def event(name: str, at_s: int = NOON, *, nanos: int = 0, port: int = 22) -> NetworkSecurityEvent:
    made = NetworkSecurityEvent(
        event_id=name, originating_node_id="sensor", final_classification="x"
    )
    made.event_timestamp.seconds, made.event_timestamp.nanos = at_s, nanos
    made.network_features.source_ip = "10.0.0.1"
    made.network_features.destination_port = port
    made.network_features.protocol_name = "TCP"
    return made


def write_lines(path: Path, *lines: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


def line(made: NetworkSecurityEvent, number: int = 1) -> bytes:
    return line_of(record_of(made, number, logged_s=made.event_timestamp.seconds))


@pytest.mark.parametrize("kinds", [("pb",), ("pb", "json")])
def test_artifacts_give_the_identities_of_the_live_stream(
    tmp_path: Path, site: Site, live: Site, kinds: tuple[Kind, ...]
) -> None:
    answer = site.run("import", layout(tmp_path, *kinds, lines=False).root)
    assert answer["added"] == len(EVENTS)
    assert site.identities() == live.identities()
    assert site.counts() == live.counts()


def test_sealed_artifacts_open_with_the_deployment_s_seed(
    tmp_path: Path, site: Site, live: Site
) -> None:
    root = layout(tmp_path, "pb.enc", "json.enc", lines=False).root
    refused = site.run("import", root, code=1)
    assert refused["rejected"] == {"unknown_key": len(EVENTS)}
    assert refused["added"] == 0
    assert "--seed-file" in refused["faults"][0]["detail"]
    answer = site.run("import", root, "--seed-file", seed_file(tmp_path))
    assert (answer["added"], answer["rejected"]) == (len(EVENTS), {})
    assert site.identities() == live.identities()


def test_a_log_gives_the_days_and_counts_of_the_live_stream(
    tmp_path: Path, site: Site, live: Site
) -> None:
    answer = site.run("import", layout(tmp_path).root)
    assert (answer["read"], answer["added"]) == (len(EVENTS), len(EVENTS))
    assert site.counts() == live.counts()
    assert {date.fromisoformat(d["day"]): d["added"] for d in answer["days"]} == live.counts()


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Auckland"])
def test_local_dates_in_names_do_not_move_events_to_other_days(
    tmp_path: Path, site: Site, live: Site, zone: str
) -> None:
    made = layout(tmp_path, "pb", "json", zone=zone)
    site.run("import", made.root, "--timezone", zone)
    assert site.identities() == live.identities()
    assert site.counts() == live.counts()


def test_days_are_cut_in_the_time_zone_of_the_settings(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", timezone="Pacific/Auckland")
    live = Site(tmp_path / "live", timezone="Pacific/Auckland")
    live.receive(EVENTS)
    site.run("import", layout(tmp_path).root)
    assert site.counts() == live.counts()


def test_flows_give_the_identities_that_a_replay_publishes(tmp_path: Path, site: Site) -> None:
    live = Site(tmp_path / "live")
    live.receive([made for _, made in sample()])
    answer = site.run("import", SAMPLE, "--node", "demo")
    assert answer["added"] == len(sample())
    assert site.identities() == live.identities()
    assert site.counts() == live.counts()


@pytest.mark.parametrize("kinds", [("pb",), ("pb", "json"), ("json",)])
def test_the_lines_and_artifacts_of_an_event_count_once_together(
    tmp_path: Path, site: Site, live: Site, kinds: tuple[Kind, ...]
) -> None:
    answer = site.run("import", layout(tmp_path, *kinds).root)
    assert (answer["added"], answer["duplicates"]) == (len(EVENTS), len(EVENTS))
    assert site.counts() == live.counts()
    if "pb" in kinds:
        assert site.identities() == live.identities()


@pytest.mark.parametrize("kinds", [("pb",), ("json",)])
@pytest.mark.parametrize("order", [("events", "artifacts"), ("artifacts", "events")])
def test_lines_and_artifacts_that_are_imported_apart_count_once(
    tmp_path: Path, site: Site, live: Site, kinds: tuple[Kind, ...], order: tuple[str, str]
) -> None:
    root = layout(tmp_path, *kinds).root
    first, second = (site.run("import", root / part) for part in order)
    assert (first["added"], second["added"]) == (len(EVENTS), 0)
    assert second["duplicates"] == len(EVENTS)
    assert site.counts() == live.counts()


@pytest.mark.parametrize("kinds", [("pb",), ()])
def test_what_came_over_the_wire_is_not_added_again(
    tmp_path: Path, live: Site, kinds: tuple[Kind, ...]
) -> None:
    before = live.identities()
    answer = live.run("import", layout(tmp_path, *kinds).root)
    assert answer["added"] == 0
    assert answer["duplicates"] == answer["read"]
    assert live.identities() == before


def test_lines_bring_in_what_the_wire_lost(tmp_path: Path, live: Site) -> None:
    site = Site(tmp_path / "site")
    site.receive(EVENTS[::3])
    answer = site.run("import", layout(tmp_path).root)
    assert answer["added"] == len(EVENTS) - len(EVENTS[::3])
    assert site.counts() == live.counts()


@pytest.mark.parametrize("arguments", [(), ("--again",)])
def test_a_second_import_adds_nothing(
    tmp_path: Path, site: Site, arguments: tuple[str, ...]
) -> None:
    root = layout(tmp_path, "pb", "json").root
    first = site.run("import", root)
    held = site.identities()
    second = site.run("import", root, *arguments)
    assert (second["added"], second["duplicates"]) == (0, second["read"])
    assert second["read"] == first["read"]
    assert second["files"]["skipped"] == (0 if arguments else first["files"]["imported"])
    assert [day["day"] for day in second["days"]] == [day["day"] for day in first["days"]]
    assert site.identities() == held


def test_a_log_that_has_grown_is_read_again_and_only_its_new_lines_added(
    tmp_path: Path, site: Site
) -> None:
    made = DetectorLayout(tmp_path / "detector")
    made.write([event("a")])
    site.run("import", made.root)
    made.write([event("b", port=23)])
    answer = site.run("import", made.root)
    assert (answer["read"], answer["added"], answer["duplicates"]) == (2, 1, 1)


def test_what_the_journal_lost_since_is_brought_in_again(tmp_path: Path, site: Site) -> None:
    root = layout(tmp_path).root
    site.run("import", root)
    shutil.rmtree(site.data / "journal" / "2017-07-05")
    answer = site.run("import", root)
    assert answer["added"] == sum(
        made.event_timestamp.ToJsonString().startswith("2017-07-05") for made in EVENTS
    )


def test_bad_lines_are_counted_with_their_place_and_spoil_nothing(
    tmp_path: Path, site: Site
) -> None:
    good = [line(event(f"e{number}", port=number), number) for number in range(40)]
    log = write_lines(
        tmp_path / "events" / "2017-07-04.jsonl",
        *good[:10],
        b"\n",
        good[10][:200] + b"\n",
        good[11][:200] + good[12],
        b'{"log": "line"}\n',
        b"\xff\xfe\x00\n",
        *good[13:20],
        good[20][:-1],
    )
    answer = site.run("import", log)
    assert answer["rejected"] == {"corrupt": 3, "not_a_record": 1}
    assert answer["added"] == 19
    assert answer["read"] == answer["added"] + 4
    assert [fault["where"] for fault in answer["faults"]] == [
        f"{log}:{number}" for number in (12, 13, 14, 15)
    ]


def test_a_torn_last_line_is_told_from_a_corrupt_one(tmp_path: Path, site: Site) -> None:
    first, second = line(event("a"), 1), line(event("b", port=23), 2)
    log = write_lines(tmp_path / "2017-07-04.jsonl", first, second[:-80])
    assert site.run("import", log)["rejected"] == {"torn": 1}
    write_lines(log, first, second)
    assert site.run("import", log)["added"] == 1


def test_only_so_many_places_are_named(tmp_path: Path, site: Site) -> None:
    log = write_lines(tmp_path / "x.jsonl", line(event("a")), *[b"torn\n"] * 100)
    answer = site.run("import", log)
    assert answer["rejected"] == {"corrupt": 100}
    assert len(answer["faults"]) == 20


def test_events_of_a_log_are_journaled_in_the_order_of_their_own_time(
    tmp_path: Path, site: Site
) -> None:
    made = [event(f"e{number}", NOON + number * 37 % 2003, port=number) for number in range(1500)]
    site.run("import", write_lines(tmp_path / "2017-07-04.jsonl", *map(line, made)))
    (events,) = site.events().values()
    times = [one.event_timestamp.seconds for one in events]
    assert all(before <= after for before, after in pairwise(times))


def test_an_artifact_s_record_names_the_event_of_a_line_that_says_too_little(
    tmp_path: Path, site: Site
) -> None:
    made = event("a")
    record = record_of(made, 1, logged_s=NOON)
    del record["network"], record["features"]
    folder = tmp_path / "artifacts" / "2017-07-04"
    folder.mkdir(parents=True)
    (folder / "event_a.pb").write_bytes(made.SerializeToString())
    (folder / "event_a.json").write_text(json.dumps(record, indent=4))
    write_lines(tmp_path / "events" / "2017-07-04.jsonl", line_of(record))
    answer = site.run("import", tmp_path)
    assert (answer["added"], answer["duplicates"]) == (1, 1)


def test_events_that_their_records_cannot_tell_apart_are_counted(
    tmp_path: Path, site: Site
) -> None:
    alike = [event(f"e{number}", nanos=number) for number in range(3)]
    site.receive(alike[:2])
    log = write_lines(
        tmp_path / "2017-07-04.jsonl", *(line(made, number) for number, made in enumerate(alike))
    )
    answer = site.run("import", log)
    assert (answer["added"], answer["duplicates"]) == (1, 2)
    assert site.run("import", log, "--again")["added"] == 0


def test_an_event_from_the_future_is_refused_and_comes_in_when_its_time_has_come(
    tmp_path: Path, site: Site
) -> None:
    later = event("later", 4_000_000_000)
    log = write_lines(tmp_path / "x.jsonl", line(event("a")), line(later))
    answer = site.run("import", log)
    assert (answer["added"], answer["rejected"]) == (1, {"future": 1})
    assert answer["files"] == {"imported": 0, "skipped": 0, "unfinished": 1}
    assert [day["day"] for day in answer["days"]] == ["2017-07-04"]


def test_events_on_a_boot_clock_get_the_time_at_which_they_were_logged(
    tmp_path: Path, site: Site
) -> None:
    booted = event("boot", 5124)
    record = record_of(booted, 1, logged_s=NOON + 12 * 3600 + 600)
    folder = tmp_path / "artifacts" / "2017-07-04"
    folder.mkdir(parents=True)
    (folder / "event_boot.pb").write_bytes(booted.SerializeToString())
    (folder / "event_boot.json").write_text(json.dumps(record, indent=2))
    write_lines(tmp_path / "events" / "2017-07-04.jsonl", line_of(record))
    assert site.run("import", tmp_path / "artifacts")["added"] == 1
    assert site.run("import", tmp_path / "events")["added"] == 0
    assert site.counts() == {date(2017, 7, 5): 1}


def test_the_name_of_a_file_dates_what_has_no_time_at_all(tmp_path: Path) -> None:
    untimed = event("a")
    untimed.ClearField("event_timestamp")
    record = record_of(untimed, 1, logged_s=0)
    del record["rag_metadata"], record["detection"]["detection_timestamp"]
    log = write_lines(tmp_path / "2017-07-04.jsonl", line_of(record))
    folder = tmp_path / "2017-07-05"
    folder.mkdir()
    (folder / "event_a.pb").write_bytes(untimed.SerializeToString())
    site = Site(tmp_path / "site", timezone="Pacific/Auckland")
    site.run("import", log, folder, "--timezone", "Pacific/Auckland")
    assert site.counts() == {date(2017, 7, 4): 1, date(2017, 7, 5): 1}


def test_bad_artifacts_are_counted_by_reason(tmp_path: Path, site: Site) -> None:
    root = layout(tmp_path, "pb.enc", lines=False).root
    first, second, *_ = sorted((root / "artifacts").rglob("*.pb.enc"))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"short")
    (first.parent / "event_bad.pb").write_bytes(b"\xff" * 40)
    (first.parent / "event_empty.pb").write_bytes(b"")
    (first.parent / "event_bad.json").write_bytes(b"{")
    (first.parent / "event_text.json").write_bytes(b"{")
    answer = site.run("import", root, "--seed-file", seed_file(tmp_path), code=1)
    assert answer["rejected"] == {"unknown_key": 1, "tampered": 1, "schema": 2, "corrupt": 1}
    assert answer["added"] == len(EVENTS) - 2


def test_recordings_come_in_beside_logs(tmp_path: Path, site: Site, live: Site) -> None:
    root = layout(tmp_path).root
    payloads = [made.SerializeToString() for made in EVENTS]
    (root / "all.pb").write_bytes(b"".join(_varint(len(one)) + one for one in payloads))
    answer = site.run("import", root)
    assert (answer["added"], answer["duplicates"]) == (len(EVENTS), len(EVENTS))
    assert site.identities() == live.identities()


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_a_recording_that_is_cut_off_gives_what_is_there(tmp_path: Path, site: Site) -> None:
    payload = event("a").SerializeToString()
    whole = _varint(len(payload)) + payload
    path = tmp_path / "cut.pb"
    path.write_bytes(whole + whole[:10])
    answer = site.run("import", path, code=1)
    assert (answer["added"], answer["rejected"]) == (1, {"unreadable": 1})


def test_a_day_that_was_closed_takes_what_is_imported(tmp_path: Path, site: Site) -> None:
    site.receive([event("a")])
    journal = site.journal()
    journal.start()
    journal.seal(date(2017, 7, 4))
    journal.stop()
    site.run("import", write_lines(tmp_path / "x.jsonl", line(event("b", port=23))))
    assert site.counts() == {date(2017, 7, 4): 2}
    with Catalogue.open(site.data / "catalogue.sqlite", read_only=True) as catalogue:
        assert [(chunk.day, chunk.events) for chunk in catalogue.chunks()] == [
            (date(2017, 7, 4), 2)
        ]


def test_a_day_that_was_forgotten_is_not_brought_back(tmp_path: Path, site: Site) -> None:
    root = layout(tmp_path, "pb").root
    site.run("import", root)
    with OfflineDays(Settings(data=DataSettings(dir=site.data))) as offline:
        ask_to_forget(site.data, date(2017, 7, 5), NOON * 10**9)
        for tombstone in offline.forgetting.unfinished():
            offline.forgetting.finish(tombstone)
    answer = site.run("import", root)
    assert answer["added"] == 0
    assert answer["rejected"]["forgotten"] > 0
    assert date(2017, 7, 5) not in site.counts()


def test_a_day_whose_journal_was_let_go_takes_nothing(tmp_path: Path, site: Site) -> None:
    site.receive([event("a")])
    journal = site.journal()
    journal.start()
    journal.seal(date(2017, 7, 4))
    journal.retire(date(2017, 7, 4))
    journal.stop()
    answer = site.run("import", write_lines(tmp_path / "x.jsonl", line(event("b", port=23))))
    assert (answer["added"], answer["rejected"]) == (0, {"retired": 1})


def test_a_detector_s_identity_without_time_holds_for_its_artifacts(
    tmp_path: Path, site: Site
) -> None:
    """A later fragment of the same event, under the profile of its sensor."""
    folder = tmp_path / "2017-07-04"
    folder.mkdir()
    for number in range(2):
        made = event("same", NOON + number)
        (folder / f"event_{number}.pb").write_bytes(made.SerializeToString())
    profile = (NamedProfile(name="d1", nodes=("sensor",), identity="node-id"),)
    settings = Settings(
        data=DataSettings(dir=site.data), detector=DetectorSettings(profiles=profile)
    )
    with open_sink(settings, clock=SystemClock(), wait=lambda: None) as sink:
        options = ImportOptions(
            zone=settings.day.zone,
            local=settings.day.zone,
            node="replay",
            keys=(),
            ahead_s=300,
            max_event_bytes=1 << 20,
        )
        result = Importer(sink, site.data, options, clock=SystemClock()).run(plan([folder]))
    assert (result.added, result.duplicates) == (1, 1)


@pytest.mark.parametrize("what", ["missing", "empty folder", "text file", "zone", "seed"])
def test_a_command_that_cannot_be_meant_is_refused(tmp_path: Path, site: Site, what: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    log = write_lines(tmp_path / "x.jsonl", line(event("a")))
    refused: dict[str, list[object]] = {
        "missing": [tmp_path / "nowhere"],
        "empty folder": [tmp_path / "empty"],
        "text file": [tmp_path / "notes.txt"],
        "zone": [log, "--timezone", "Mars/Olympus"],
        "seed": [log, "--seed-file", tmp_path / "notes.txt"],
    }
    with pytest.raises(UsageError):
        site.run("import", *refused[what])
    assert not site.data.exists()


def test_identities_of_records_do_not_collide_with_those_of_events(
    tmp_path: Path, site: Site
) -> None:
    site.run("import", layout(tmp_path).root)
    assert Counter(identity(made) for made in EVENTS) & site.identities() == Counter()
    assert set(site.identities().values()) == {1}
