"""SIGKILL in the middle of an import, and what a second one makes of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.backfill_kit import Site
from tests.detector_layout import DetectorLayout
from tests.embed_samples import sample

WAIT_S = 30.0
EVENTS = [event for _, event in sample()[::8]]


def test_an_import_that_is_killed_and_run_again_ends_in_the_same_days(tmp_path: Path) -> None:
    made = DetectorLayout(tmp_path / "detector")
    made.write(EVENTS)
    whole = Site(tmp_path / "whole")
    assert whole.run("import", made.root)["added"] == len(EVENTS)

    site = Site(tmp_path / "killed")
    killed = 0
    for goal in (1, 600):
        importing = site.start("import", made.root)
        end = time.monotonic() + WAIT_S
        while importing.poll() is None and sum(site.counts().values()) < goal:
            assert time.monotonic() < end, "the import adds nothing"
        importing.kill()
        importing.communicate()
        killed += importing.returncode != 0
    assert killed > 0

    before = sum(site.counts().values())
    importing = site.start("import", made.root)
    output, errors = importing.communicate(timeout=WAIT_S)
    assert importing.returncode == 0, errors
    answer = json.loads(output)
    assert answer["added"] == len(EVENTS) - before
    assert answer["read"] == len(EVENTS)
    assert site.identities() == whole.identities()
    assert site.counts() == whole.counts()
    assert site.run("import", made.root)["added"] == 0
