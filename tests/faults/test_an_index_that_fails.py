"""Each index in turn fails in a running service, in each way: the others go on, and it catches up.

What `dayfold days` prints is looked at before, during and after; it comes from the catalogue, and
one test reads it from the command itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from consumer.settings import INDEX_NAMES
from tests.faults.arming import write_models
from tests.faults.attacked_site import EVENTS, Site, round_of
from tests.faults.campaign import faults
from tests.faults.nursery import Nursery

pytestmark = pytest.mark.slow


class Bench:
    """A running service that closes one small day after the other."""

    def __init__(self, site: Site, models: Path) -> None:
        self.site = site
        self.models = models
        self.number = 0
        self._receive()

    def _receive(self) -> None:
        events = round_of(self.number).events
        self.site.reach(
            f"the events of day {self.number}",
            lambda: self.site.durable(events),
            lambda: self.site.publish(events),
        )

    def next_day(self) -> None:
        """Go on to the next day; the one of before is over and closes."""
        self.number += 1
        self._receive()

    def day(self, number: int) -> dict[str, Any]:
        """A day as `dayfold days` prints it."""
        chunk = self.site.chunk(round_of(number).day)
        return {} if chunk is None else chunk.to_json()

    def wait(self, number: int, what: str, reached: Callable[[dict[str, Any]], bool]) -> Any:
        """Wait until a day is as it should be."""
        self.site.reach(
            f"day {number}: {what}", lambda: reached(self.day(number) or {"indices": {}})
        )
        return self.day(number)


@dataclass(frozen=True)
class Fault:
    """A way to fail, and what the catalogue says of it."""

    name: str
    plant: Callable[[Bench, str], Callable[[], None]]
    says: str


def file_for_folder(bench: Bench, index: str) -> Callable[[], None]:
    """What a read-only folder is to a user who may write everywhere."""
    folder = bench.site.data / "index" / index
    aside = folder.with_name(f"{index}.aside")
    folder.rename(aside)
    folder.write_text("a file")

    def mend() -> None:
        folder.unlink()
        aside.rename(folder)

    return mend


def corrupt_file(bench: Bench, index: str) -> Callable[[], None]:
    path = bench.site.data / "index" / index / "CURRENT"
    sound = path.read_bytes()
    path.write_bytes(sound[:-10] + bytes([sound[-10] ^ 1]) + sound[-9:])

    def mend() -> None:
        path.write_bytes(sound)

    return mend


def missing_model(bench: Bench, index: str) -> Callable[[], None]:
    path = bench.models / f"{index}.onnx"
    aside = path.rename(path.with_suffix(".aside"))

    def mend() -> None:
        aside.rename(path)

    return mend


def deadly_model(bench: Bench, index: str) -> Callable[[], None]:
    path = bench.models / f"{index}.deadly"
    path.touch()
    return path.unlink


FAULTS = (
    Fault("a file where its folder should be", file_for_folder, "StoreWriteError"),
    Fault("a corrupt file", corrupt_file, "StoreCorruptError"),
    Fault("a missing model", missing_model, "ModelMissingError"),
    Fault("a model that kills the child", deadly_model, "was killed"),
)


@contextmanager
def running(folder: Path, retry_s: str) -> Iterator[Bench]:
    models, place = folder / "models", folder / "site"
    models.mkdir()
    place.mkdir()
    write_models(models)
    pauses = {"DAYFOLD_FOLD__RETRY_BASE_S": retry_s, "DAYFOLD_FOLD__RETRY_CAP_S": retry_s}
    with (
        Nursery(models) as nursery,
        Site(place, nursery, models, plan=lambda: ("none", "kill"), settings=pauses) as site,
    ):
        bench = Bench(site, models)
        bench.next_day()
        bench.wait(0, "committed", lambda day: day.get("state") == "committed")
        yield bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(tmp_path_factory.mktemp("failing"), "1") as bench:
        yield bench


def fails_alone(day: dict[str, Any], index: str) -> bool:
    """Whether the others are committed and this one is not."""
    return bool(day["indices"]) and all(
        (state["state"] == "committed") == (name != index) and (name != index or state["attempts"])
        for name, state in day["indices"].items()
    )


@pytest.mark.parametrize("index", INDEX_NAMES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_two_indices_commit_and_the_third_catches_up_when_the_cause_is_gone(
    bench: Bench, fault: Fault, index: str
) -> None:
    number = bench.number
    assert bench.day(number)["state"] == "open"
    mend = fault.plant(bench, index)
    try:
        bench.next_day()
        day = bench.wait(number, "two of three", lambda day: fails_alone(day, index))
        assert (day["state"], day["revision"], day["events"]) == ("degraded", 1, EVENTS)
        failed = day["indices"][index]
        assert (failed["state"], failed["revision"]) == ("failed", None)
        assert fault.says in failed["error"]
        assert failed["next_retry"] is not None
        for name in set(INDEX_NAMES) - {index}:
            assert day["indices"][name]["revision"] == 1
            assert day["coverage"][name]["events"] == EVENTS
        assert bench.day(number - 1)["state"] == "committed"
    finally:
        mend()
    day = bench.wait(number, "committed", lambda day: day.get("state") == "committed")
    assert day["indices"][index]["error"] is None
    assert day["coverage"][index]["events"] == EVENTS
    assert bench.site.model.restarts == 0


def dayfold(site: Site, *arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "consumer", *arguments, "--config", str(site.config), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_reconcile_by_hand_does_not_wait_for_the_next_try(tmp_path: Path) -> None:
    with running(tmp_path, "3600") as bench:
        number = bench.number
        mend = missing_model(bench, "semantic")
        bench.next_day()
        bench.wait(number, "two of three", lambda day: fails_alone(day, "semantic"))
        code, days = dayfold(bench.site, "days")
        assert code == 1
        assert [day["state"] for day in days] == ["committed", "degraded", "open"]
        code, days = dayfold(bench.site, "reconcile")
        assert code == 1, "the cause is still there"
        assert days[1]["indices"]["semantic"]["attempts"] == 2
        mend()
        code, days = dayfold(bench.site, "reconcile")
        assert code == 0
        assert [day["state"] for day in days] == ["committed", "committed", "open"]
        assert dayfold(bench.site, "days") == (0, days)
        assert bench.site.stop() == 0
        assert faults(bench.site) == []
