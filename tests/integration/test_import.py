"""What a detector kept gives the same days as its live stream did, each event once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from consumer.backfill.importer import Importer, ImportOptions
from consumer.backfill.layout import plan
from consumer.backfill.writer import open_sink
from consumer.clock import SystemClock
from consumer.replay.build_sample import SAMPLE
from consumer.settings import DataSettings, DetectorSettings, Settings
from consumer.wire.profiles import NamedProfile
from index.catalogue import Catalogue
from tests.backfill_kit import Site, identity
from tests.detector_layout import DetectorLayout, Kind, line_of, record_of
from tests.embed_samples import sample
from tests.imported_files import EVENTS, NOON, event, layout, line, seed_file, varint, write_lines


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def live(tmp_path: Path) -> Site:
    """The same events, received."""
    made = Site(tmp_path / "live")
    made.receive(EVENTS)
    return made


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


def test_recordings_come_in_beside_logs(tmp_path: Path, site: Site, live: Site) -> None:
    root = layout(tmp_path).root
    payloads = [made.SerializeToString() for made in EVENTS]
    (root / "all.pb").write_bytes(b"".join(varint(len(one)) + one for one in payloads))
    answer = site.run("import", root)
    assert (answer["added"], answer["duplicates"]) == (len(EVENTS), len(EVENTS))
    assert site.identities() == live.identities()


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


def test_identities_of_records_do_not_collide_with_those_of_events(
    tmp_path: Path, site: Site
) -> None:
    site.run("import", layout(tmp_path).root)
    assert Counter(identity(made) for made in EVENTS) & site.identities() == Counter()
    assert set(site.identities().values()) == {1}
