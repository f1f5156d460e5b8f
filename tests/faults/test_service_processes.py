"""More than one service on a folder, and a service that dies while its child embeds."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

from consumer.demo.deployment import Deployment
from index.catalogue import Catalogue

DAY = date(2017, 7, 4)


def children(pid: int, named: str) -> list[int]:
    """Processes that a process has started and whose command names a module."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and named in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


def test_a_second_service_on_a_data_folder_is_refused_and_hurts_nothing(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.start_service()
        service = deployment.service
        assert service is not None
        second = subprocess.run(
            [sys.executable, "-m", "consumer", "run", "--config", str(deployment.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        last_words = second.stderr.splitlines()[-1]
        assert last_words == (
            f"dayfold: data folder {deployment.data_dir} is in use by process {service.pid}: "
            "stop it, or use another data.dir"
        )
        replay = deployment.start_replay(rate=1000, limit=300)
        deployment.wait_for(
            "the first one to go on", lambda p: p["journal"]["durable"] == 300, timeout_s=60
        )
        assert replay.wait(30) == 0
        assert deployment.stop_service() == 0


def test_a_service_may_open_as_many_files_as_the_system_allows(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Deployment(tmp_path) as deployment:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            deployment.start_service()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert deployment.service is not None
        limits = resource.prlimit(deployment.service.pid, resource.RLIMIT_NOFILE)
        assert deployment.stop_service() == 0
    assert limits == (hard, hard)


def test_a_service_killed_while_its_child_embeds_takes_the_child_with_it_and_folds_once(
    tmp_path: Path,
) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.start_service()
        replay = deployment.start_replay(rate=2000, days=str(DAY), limit=800)
        deployment.wait_for("the stream", lambda _: replay.poll() is not None, timeout_s=60)
        deployment.close(DAY)
        service = deployment.service
        assert service is not None
        end = time.monotonic() + 60
        while not (embedding := children(service.pid, "consumer.folding.fold")):
            assert time.monotonic() < end, "no child"
            time.sleep(0.01)
        deployment.kill_service()  # the child has only begun to start, and must notice later
        end = time.monotonic() + 60
        while any(_lives(pid) for pid in embedding):
            assert time.monotonic() < end, "the child outlives the service"
            time.sleep(0.05)
        deployment.start_service()
        picture = deployment.wait_for(
            "the day, and the account of the child that committed it",
            lambda picture: (
                [day["state"] for day in picture["days"]] == ["committed"]
                and picture["fold"]["folds"] > 0
            ),
            timeout_s=120,
        )
        assert picture["fold"]["folds"] == 1
        assert deployment.stop_service() == 0
    (day,) = picture["days"]
    assert (day["revision"], day["events"]) == (1, 800)
    with Catalogue.open(deployment.data_dir / "catalogue.sqlite", read_only=True) as catalogue:
        chunk = catalogue.chunk(DAY)
        assert chunk is not None
        assert {state.revision for state in chunk.indices.values()} == {1}
        assert {state.attempts for state in chunk.indices.values()} == {1}
        assert len(catalogue.facts_of("timeseries", DAY)) == 9


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for yet is dead enough.
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
