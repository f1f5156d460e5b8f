"""`dayfold import` while the real service runs, and the days that come of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from consumer.demo.deployment import Deployment
from tests.detector_layout import DetectorLayout
from tests.embed_samples import sample

EVENTS = [event for _, event in sample()[::40]]


def test_the_running_service_takes_in_what_is_imported_beside_the_stream(tmp_path: Path) -> None:
    made = DetectorLayout(tmp_path / "detector", kinds=("pb",))
    made.write(EVENTS)
    with Deployment(tmp_path / "deployment") as deployment:
        deployment.start_service()
        command = [
            sys.executable, "-m", "consumer", "import", str(made.root),
            "--config", str(deployment.config), "--json",
        ]  # fmt: skip
        answers = [
            json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
            for _ in range(2)
        ]
        deployment.wait_for(
            "the journal",
            lambda picture: (
                sum(day["events"] for day in picture["days"]) == len(EVENTS)
                and sum(picture["imported"]["added"].values()) == len(EVENTS)
            ),
            timeout_s=30,
        )
        assert deployment.stop_service() == 0
    expected = Counter(e.event_timestamp.ToJsonString()[:10] for e in EVENTS)
    assert [answer["added"] for answer in answers] == [len(EVENTS), 0]
    assert {day["day"]: day["added"] for day in answers[0]["days"]} == expected
    assert picture_counts(deployment) == (0, 0)


def picture_counts(deployment: Deployment) -> tuple[int, int]:
    """Received and journaled from the wire: nothing of it is imported."""
    picture = deployment.picture()
    assert picture is not None
    return picture["intake"]["received"], picture["intake"]["journaled"]
