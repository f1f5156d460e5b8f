"""A snapshot that is taken while events pour in holds all that was durable when it began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from consumer.care.verify import verify_data
from consumer.settings import load
from tests.faults.arming import write_models
from tests.faults.attacked_site import EVENTS, Events, Site, read_segment, round_of
from tests.faults.nursery import Nursery

pytestmark = pytest.mark.slow

DAYS = 3
BURST = 400


def dayfold(site: Site, *arguments: str, data: Path | None = None) -> subprocess.Popen[str]:
    environment = {"DAYFOLD_DATA__DIR": str(data)} if data else {}
    return subprocess.Popen(
        [sys.executable, "-m", "consumer", *arguments, "--config", str(site.config), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def answer(command: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = command.communicate(timeout=300)
    assert command.returncode == 0
    found: dict[str, Any] = json.loads(said)
    return found


def burst(number: int) -> Events:
    """Further events of the last day."""
    day = round_of(DAYS - 1)
    name, payload = next(iter(day.events.items()))
    return {
        f"{name}+{place}": payload.replace(name.encode(), f"{name[:5]}{place:07d}".encode())
        for place in range(number * BURST, (number + 1) * BURST)
    }


def test_a_snapshot_under_load_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, place = tmp_path / "models", tmp_path / "site"
    models.mkdir()
    place.mkdir()
    write_models(models)
    with (
        Nursery(models) as nursery,
        Site(place, nursery, models, plan=lambda: ("none", "kill")) as site,
    ):
        for number in range(DAYS):
            events = round_of(number).events
            site.reach(
                f"the events of day {number}",
                lambda events=events: site.durable(events),  # type: ignore[misc]
                lambda events=events: site.publish(events),  # type: ignore[misc]
            )
        # The first two days are closing while the snapshots are taken, and the third grows.
        taken: list[tuple[Path, set[str]]] = []
        sent = 0
        while not taken or not site.committed(round_of(1).day, EVENTS):
            site.take_stock()
            durable = set(site.model.events)
            target = tmp_path / f"snapshot-{len(taken)}"
            command = dayfold(site, "snapshot", str(target))
            while command.poll() is None:
                site.publish(burst(sent))
                sent += 1
            answer(command)
            taken.append((target, durable))
        site.take_stock()
        assert len(site.model.events) > DAYS * EVENTS + BURST, "events came while it was taken"
        for target, durable in taken:
            data = target.with_name(f"{target.name}-restored")
            answer(dayfold(site, "restore", str(target), data=data))
            there = {
                name
                for path in (data / "journal").rglob("*.seg")
                for name in read_segment(path, path.stat().st_size)
            }
            assert durable <= there
            monkeypatch.setenv("DAYFOLD_DATA__DIR", str(data))
            with mock.patch("consumer.care.verify.installed_models", return_value=()):
                found = verify_data(load(site.config), deep=True)["faults"]
            assert [fault for fault in found if fault["what"] != "model of index"] == []
            monkeypatch.delenv("DAYFOLD_DATA__DIR")
        assert site.stop() == 0
