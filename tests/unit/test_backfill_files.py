"""Which files an import takes, in which order, and what is remembered of them."""

from __future__ import annotations

import os
from datetime import date
from io import BytesIO
from pathlib import Path

import pytest

from consumer.backfill import following, logfile
from consumer.backfill.finished import Finished, FinishedFiles, content_digest, stamp_of
from consumer.backfill.following import FollowedFile
from consumer.backfill.layout import (
    ArtifactFolder,
    ArtifactGroup,
    LogFile,
    Recording,
    groups_of,
    plan,
)
from consumer.backfill.logfile import Line, lines_of

FOURTH = date(2017, 7, 4)


def touch(path: Path, content: bytes = b"{}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_plan_takes_what_carries_identities_first_and_goes_day_by_day(tmp_path: Path) -> None:
    for name in (
        "site/events/2017-07-05.jsonl",
        "site/events/2017-07-04.jsonl",
        "site/events/2017-07-04.jsonl.1",
        "site/events/notes.md",
        "site/artifacts/2017-07-04/event_a.pb",
        "site/artifacts/2017-07-05/event_b.pb.enc",
        "site/artifacts/2017-07-06/event_c.json",
        "flows.parquet",
        "live.jsonl",
    ):
        touch(tmp_path / name)
    units = plan([tmp_path])
    assert [
        str((one.folder if isinstance(one, ArtifactFolder) else one.path).relative_to(tmp_path))
        for one in units
    ] == [
        "flows.parquet",
        "site/artifacts/2017-07-04",
        "site/artifacts/2017-07-05",
        "site/events/2017-07-04.jsonl",
        "site/events/2017-07-04.jsonl.1",
        "site/artifacts/2017-07-06",
        "site/events/2017-07-05.jsonl",
        "live.jsonl",
    ]
    assert isinstance(units[0], Recording)
    assert isinstance(units[3], LogFile)
    assert units[3].day == FOURTH


def test_a_file_counts_once_however_many_paths_lead_to_it(tmp_path: Path) -> None:
    log = touch(tmp_path / "a" / "2017-07-04.jsonl")
    artifact = touch(tmp_path / "a" / "event_1.pb")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert len(plan([tmp_path, log, tmp_path / "a", tmp_path / "b", artifact])) == 2


def test_single_artifacts_are_taken_alone(tmp_path: Path) -> None:
    first = touch(tmp_path / "event_1.pb")
    touch(tmp_path / "event_2.pb")
    (unit,) = plan([first])
    assert isinstance(unit, ArtifactFolder)
    assert [one.event_id for group in groups_of(unit) for one in group.artifacts] == ["1"]


def test_events_in_protobuf_s_json_form_are_told_from_a_log(tmp_path: Path) -> None:
    log = touch(tmp_path / "a.jsonl", b'{"detection": {}}\n')
    events = touch(tmp_path / "b.jsonl", b'{"eventId": "e"}\n')
    assert plan([log, events]) == [Recording(events), LogFile(log, None)]


def test_artifacts_of_a_folder_come_in_groups_with_their_records_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.backfill.layout.GROUP_EVENTS", 2)
    folder = tmp_path / "2017-07-04"
    for name in ("1.pb", "1.pb.enc", "1.json", "1.json.enc", "10.pb", "2.pb.enc", "3.json"):
        touch(folder / f"event_{name}")
    (unit,) = plan([folder])
    assert isinstance(unit, ArtifactFolder)
    found = [
        [(one.event_id, *(path.name for path in one.paths)) for one in group.artifacts]
        for group in groups_of(unit)
    ]
    assert found == [
        [("1", "event_1.pb", "event_1.json"), ("10", "event_10.pb")],
        [("2", "event_2.pb.enc")],
        [("3", "event_3.json")],
    ]


@pytest.mark.parametrize("changed", ["size", "content", "nothing", "time", "day"])
def test_a_finished_file_is_known_while_it_is_the_same(tmp_path: Path, changed: str) -> None:
    path = touch(tmp_path / "2017-07-04.jsonl", b"12345")
    log = LogFile(path, FOURTH)
    before = stamp_of(log)
    stamp = type(before)(before.key, before.size, before.changed_ns, content_digest(path))
    FinishedFiles(tmp_path / "import").add(Finished(stamp, 5, {"torn": 1}, {"2017-07-04": (4, 9)}))
    held = 9
    if changed == "size":
        path.write_bytes(b"123456")
    elif changed == "content":
        path.write_bytes(b"12346")
        os.utime(path, ns=(0, before.changed_ns + 10**9))
    elif changed == "time":
        os.utime(path, ns=(0, before.changed_ns + 10**9))
    elif changed == "day":
        held = 8
    found = FinishedFiles(tmp_path / "import").find(log, lambda _: held)
    assert (found is not None) == (changed in {"nothing", "time"})


def test_a_torn_list_of_finished_files_loses_only_what_is_torn(tmp_path: Path) -> None:
    paths = [touch(tmp_path / f"2017-07-0{day}.jsonl") for day in (4, 5, 6)]
    logs = [LogFile(path, None) for path in paths]
    finished = FinishedFiles(tmp_path / "import")
    for log in logs[:2]:
        finished.add(Finished(stamp_of(log), 1, {}, {}))
    listing = tmp_path / "import" / "finished.jsonl"
    listing.write_bytes(listing.read_bytes()[:-20])
    after = FinishedFiles(tmp_path / "import")
    after.add(Finished(stamp_of(logs[2]), 1, {}, {}))
    again = FinishedFiles(tmp_path / "import")
    assert [again.find(log, lambda _: 0) is not None for log in logs] == [True, False, True]


def test_a_group_of_artifacts_is_another_when_one_of_them_changes(tmp_path: Path) -> None:
    paths = [touch(tmp_path / f"event_{number}.pb", b"x") for number in range(3)]

    def group() -> ArtifactGroup:
        (unit,) = plan([tmp_path])
        assert isinstance(unit, ArtifactFolder)
        (found,) = groups_of(unit)
        return found

    before = stamp_of(group())
    assert stamp_of(group()) == before
    os.utime(paths[1], ns=(0, 5))
    assert stamp_of(group()) != before


def test_a_line_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "LINE_BYTES", 10)
    content = b"short\n" + b"x" * 35 + b"\nnext\r\n" + b"y" * 11 + b"\n" + b"z" * 10
    assert list(lines_of(BytesIO(content), len(content))) == [
        Line(1, b"short", True),
        Line(2, None, True),
        Line(3, b"next", True),
        Line(4, None, True),
        Line(5, b"z" * 10, False),
    ]


def test_lines_end_where_the_file_was_measured(tmp_path: Path) -> None:
    content = b"one\ntwo\nthree\n"
    assert [line.content for line in lines_of(BytesIO(content), 6)] == [b"one", b"tw"]


def test_a_followed_line_that_is_too_long_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LINE_BYTES", 64)
    monkeypatch.setattr(following, "BLOCK_BYTES", 16)
    path = touch(tmp_path / "log.jsonl", b"one\n" + b"x" * 300 + b"\n" + b"y" * 40 + b"\nlast\n")
    file = FollowedFile.open(path)
    lines: list[bytes | None] = []
    for _ in range(20):
        lines += [line.content for line in file.lines()]
    file.close()
    assert lines == [b"one", None, b"y" * 40, b"last"]
