import json
import os
import time
from datetime import date
from pathlib import Path
from typing import Any

from consumer.disk import MIB, DiskRoom
from consumer.folding.requests import Requests
from consumer.health.status import STATUS_FILE, is_live, read_status, unwell, write_status

DAY = date(2017, 7, 4)


def picture(**service: Any) -> dict[str, Any]:
    return {
        "written_ns": time.time_ns(),
        "service": {"state": "running", "pid": os.getpid(), "ended_threads": [], **service},
        "disk": {"room": True, "free_mb": 900, "min_free_mb": 512},
    }


def test_a_request_is_taken_once(tmp_path: Path) -> None:
    requests = Requests(tmp_path)
    requests.ask_close(DAY)
    requests.ask_close(DAY)
    requests.ask_reconcile()
    asked = requests.take()
    assert asked.close == {DAY}
    assert asked.reconcile
    assert requests.take().close == frozenset()


def test_a_file_that_means_nothing_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "requests"
    folder.mkdir(parents=True)
    (folder / "close-yesterday").touch()
    assert Requests(tmp_path).take().close == frozenset()
    assert not list(folder.iterdir())


def test_a_picture_is_replaced_whole_and_private(tmp_path: Path) -> None:
    for number in range(3):
        write_status(tmp_path, {"number": number})
    assert read_status(tmp_path) == {"number": 2}
    assert (tmp_path / STATUS_FILE).stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / STATUS_FILE).read_text()) == {"number": 2}


def test_a_service_is_live_while_its_process_reports() -> None:
    now = time.time_ns()
    assert is_live(picture(), now)
    assert not is_live({**picture(), "written_ns": now - 11 * 10**9}, now)
    assert not is_live(picture(pid=2**22 + 1), now)
    assert not is_live(picture(state="stopped"), now)


def test_what_keeps_the_service_from_receiving_is_named() -> None:
    now = time.time_ns()
    assert unwell(picture(), now) == []
    full = {**picture(), "disk": {"room": False, "free_mb": 3, "min_free_mb": 512}}
    assert "3 MiB free" in unwell(full, now)[0]
    assert unwell(picture(ended_threads=["intake"]), now) == ["the intake thread has ended"]


def test_reception_stops_below_the_limit_and_resumes_a_tenth_above_it(tmp_path: Path) -> None:
    free = [2000]
    disk = DiskRoom(tmp_path, min_free_mb=1000, free=lambda _folder: free[0] * MIB)
    seen = []
    turned = []
    for free[0] in (1000, 999, 1001, 1099, 1100, 1000):
        turned.append(disk.measure())
        seen.append(disk.room())
    assert seen == [True, False, False, False, True, True]
    assert turned == [False, True, False, False, True, False]
    assert disk.stops == 1


def test_a_write_that_finds_no_room_stops_reception_until_no_more_is_heard_of_it(
    tmp_path: Path,
) -> None:
    disk = DiskRoom(tmp_path, min_free_mb=1, free=lambda _folder: 2000 * MIB)
    for _ in range(3):
        disk.refuse("File too large")
        disk.measure()
        assert not disk.room()
    assert disk.stops == 1
    disk.measure()
    assert disk.room()
    assert disk.refused is None


def test_a_refused_write_is_named_before_the_free_space() -> None:
    disk = {"room": False, "free_mb": 900, "min_free_mb": 512, "refused": "Disk quota exceeded"}
    reasons = unwell({**picture(), "disk": disk}, time.time_ns())
    assert reasons == ["reception is stopped: Disk quota exceeded"]
