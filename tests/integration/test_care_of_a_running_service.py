"""Snapshot, forget and repair by the command line, on a service that is fed and folds for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumer.care.verify import verify_data
from consumer.demo.deployment import SAMPLE, Deployment
from consumer.questions.recall import Recall
from consumer.settings import load
from tests.data_folder_kit import flip

DAYS = tuple(date(2017, 7, day) for day in (4, 5, 6))
EVENTS = 60


@dataclass(frozen=True)
class Fed:
    """A running service whose three days are committed, and snapshots from while it worked."""

    deployment: Deployment
    snapshots: list[Path]
    answers: list[dict[str, Any]]


def dayfold(deployment: Deployment, *arguments: str, data: Path | None = None) -> tuple[int, Any]:
    options = ["--config", str(deployment.config), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "consumer", *arguments, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **({"DAYFOLD_DATA__DIR": str(data)} if data else {})},
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def small_recording(folder: Path) -> Path:
    """The first flows of each day of the sample."""
    table = pq.read_table(SAMPLE)
    times = table.column("timestamp").to_pylist()
    rows = [[n for n, time in enumerate(times) if time.date() == day][:EVENTS] for day in DAYS]
    path = folder / "small.parquet"
    pq.write_table(table.take(pa.array([n for part in rows for n in part])), path)
    return path


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    folder = tmp_path_factory.mktemp("care")
    with Deployment(folder) as deployment:
        deployment.start_service()
        replay = deployment.start_replay(rate=40, source=small_recording(folder))
        snapshots: list[Path] = []
        answers: list[dict[str, Any]] = []
        deployment.wait_for(
            "the first events", lambda picture: picture["journal"]["durable"] > 10, timeout_s=60
        )
        while replay.poll() is None or len(snapshots) < 2:
            target = folder / f"snapshot-{len(snapshots)}"
            code, answer = dayfold(deployment, "snapshot", str(target))
            assert code == 0, answer
            snapshots.append(target)
            answers.append(answer)
        deployment.wait_for(
            "the journal",
            lambda picture: picture["journal"]["durable"] >= EVENTS * len(DAYS),
            timeout_s=30,
        )
        deployment.close(DAYS[-1])
        deployment.wait_for(
            "three committed days",
            lambda picture: [day["state"] for day in picture["days"]] == ["committed"] * 3,
            timeout_s=120,
        )
        yield Fed(deployment, snapshots, answers)


def restored(fed: Fed, snapshot: Path) -> Path:
    data = snapshot.with_name(f"{snapshot.name}-restored")
    code, answer = dayfold(fed.deployment, "restore", str(snapshot), data=data)
    assert code == 0, answer
    return data


def test_every_snapshot_of_a_service_at_work_verifies(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(answer["settled"] for answer in fed.answers)
    counted = []
    for snapshot in fed.snapshots:
        data = restored(fed, snapshot)
        monkeypatch.setenv("DAYFOLD_DATA__DIR", str(data))
        answer = verify_data(load(fed.deployment.config), deep=True)
        assert answer["faults"] == []
        counted.append(answer["checked"]["days"])
    assert counted[0] >= 1


def test_a_snapshot_of_the_whole_answers_as_the_service_does(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = fed.snapshots[0].with_name("whole")
    assert dayfold(fed.deployment, "snapshot", str(target), "--copy")[0] == 0
    data = restored(fed, target)
    with Recall.open(load(fed.deployment.config)) as recall:
        here = recall.search("ssh brute force", k=5)
    monkeypatch.setenv("DAYFOLD_DATA__DIR", str(data))
    with Recall.open(load(fed.deployment.config)) as recall:
        assert recall.search("ssh brute force", k=5) == here


def test_repair_refuses_beside_a_service_and_mends_without_one(fed: Fed) -> None:
    code, said = dayfold(fed.deployment, "repair")
    assert code == 1
    assert "in use by process" in said
    data = fed.snapshots[0].with_name("damaged")
    target = fed.snapshots[0].with_name("to-be-damaged")
    assert dayfold(fed.deployment, "snapshot", str(target))[0] == 0
    assert dayfold(fed.deployment, "restore", str(target), data=data)[0] == 0
    flip(data / "journal" / "2017-07-05" / "000001.seg", 24 + 4)
    assert dayfold(fed.deployment, "verify", "--deep", data=data)[0] == 1
    code, answer = dayfold(fed.deployment, "repair", data=data)
    assert code == 1
    assert answer["faults"] == []
    [lost] = answer["unrecoverable"]
    assert (lost["day"], lost["events"]) == ("2017-07-05", 1)
    assert lost["named"][0]["event_id"].startswith("detector-01-")
    code, days = dayfold(fed.deployment, "days", data=data)
    assert code == 0
    assert {day["day"]: (day["revision"], day["events"]) for day in days} == {
        "2017-07-04": (1, EVENTS),
        "2017-07-05": (2, EVENTS - 1),
        "2017-07-06": (1, EVENTS),
    }
    code, again = dayfold(fed.deployment, "repair", data=data)
    assert (code, again["repaired"], again["unrecoverable"]) == (0, [], [])


def ask(fed: Fed, question: str) -> Any:
    picture = fed.deployment.picture()
    assert picture is not None
    with urllib.request.urlopen(picture["service"]["api"] + question, timeout=60) as answer:
        return json.loads(answer.read())


def days_named(fed: Fed) -> set[str]:
    """Every day in the answers that the running service gives over HTTP."""
    answers = [
        ask(fed, "/v1/similar/2017-07-04?k=5"),
        ask(fed, "/v1/search?q=web%20traffic&k=50"),
        {"results": ask(fed, "/v1/novelty")["days"]},
        {"results": ask(fed, "/v1/days")},
    ]
    return {result["day"] for answer in answers for result in answer["results"]}


def told(path: Path, ids: set[bytes]) -> bool:
    """Whether a file has any of these names in it."""
    content = path.read_bytes() if path.exists() else b""
    return any(one in content for one in ids)


def test_a_running_service_forgets_a_day(fed: Fed) -> None:
    ids = {f"detector-01-{row:07d}".encode() for row in range(EVENTS, 2 * EVENTS)}
    catalogue = [fed.deployment.data_dir / f"catalogue.sqlite{end}" for end in ("", "-wal")]
    assert any(told(path, ids) for path in catalogue)
    assert "2017-07-05" in days_named(fed)
    code, said = dayfold(fed.deployment, "forget", "2017-07-05")
    assert code == 2
    assert "--yes" in said
    code, answer = dayfold(fed.deployment, "forget", "2017-07-05", "--yes")
    assert code == 0
    assert answer["removed"]["events"] == EVENTS
    assert set(answer["removed"]["rows"]) == {"timeseries", "semantic", "attack"}
    code, days = dayfold(fed.deployment, "days")
    assert [day["day"] for day in days] == ["2017-07-04", "2017-07-06"]
    assert days_named(fed) == {"2017-07-04", "2017-07-06"}
    code, answer = dayfold(fed.deployment, "verify", "--deep")
    assert (code, answer["faults"]) == (0, [])
    for part in ("journal", "index", "quarantine"):
        for path in (fed.deployment.data_dir / part).rglob("*"):
            assert not path.is_file() or not told(path, ids), path
    assert not any(told(path, ids) for path in catalogue)
    picture = fed.deployment.wait_for(
        "the picture without it", lambda picture: len(picture["days"]) == 2, timeout_s=10
    )
    assert picture["service"]["state"] == "running"
