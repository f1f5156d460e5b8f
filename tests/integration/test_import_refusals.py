"""What an import cannot take is counted by its reason, with its place, and spoils nothing else."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from consumer.care.offline import OfflineDays
from consumer.errors import UsageError
from consumer.retention.forget import ask_to_forget
from consumer.settings import DataSettings, Settings
from tests.backfill_kit import Site
from tests.imported_files import EVENTS, NOON, event, layout, line, seed_file, varint, write_lines


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


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


def test_an_event_from_the_future_is_refused_and_comes_in_when_its_time_has_come(
    tmp_path: Path, site: Site
) -> None:
    later = event("later", 4_000_000_000)
    log = write_lines(tmp_path / "x.jsonl", line(event("a")), line(later))
    answer = site.run("import", log)
    assert (answer["added"], answer["rejected"]) == (1, {"future": 1})
    assert answer["files"] == {"imported": 0, "skipped": 0, "unfinished": 1}
    assert [day["day"] for day in answer["days"]] == ["2017-07-04"]


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


def test_a_recording_that_is_cut_off_gives_what_is_there(tmp_path: Path, site: Site) -> None:
    payload = event("a").SerializeToString()
    whole = varint(len(payload)) + payload
    path = tmp_path / "cut.pb"
    path.write_bytes(whole + whole[:10])
    answer = site.run("import", path, code=1)
    assert (answer["added"], answer["rejected"]) == (1, {"unreadable": 1})


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
