"""A process that appends is killed with SIGKILL; no event that it called durable is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from consumer.journal import verify_day
from tests.journal_kit import DAY, events, running, sealed_numbers

#: How many lines the child may print before it is killed: each time at another place.
LINES = [1, 7, 25]


def append_until_killed(root: Path, first: int, lines: int) -> int:
    """Run the child and kill it; return how many events it had called durable."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.journal_child", str(root), str(first)],
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        durable = 0
        for _ in range(lines):
            durable = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().split()
    return int(rest[-1]) if rest else durable


@pytest.mark.parametrize("lines", LINES)
def test_no_acknowledged_event_is_lost_in_a_kill(tmp_path: Path, lines: int) -> None:
    root = tmp_path / "journal"
    durable = append_until_killed(root, 0, lines)
    with running(root) as journal:
        appended = journal.counts(DAY).events
        assert appended >= durable > 0
        assert journal.append(events(range(appended), size=200)).added == 0
        journal.seal(DAY)
    assert sealed_numbers(root) == list(range(appended))
    assert verify_day(root, DAY) == []


def test_kill_after_kill_loses_nothing(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    appended = 0
    for lines in (2, 9, 4):
        durable = append_until_killed(root, appended, lines)
        with running(root) as journal:
            assert journal.counts(DAY).events >= appended + durable
            appended = journal.counts(DAY).events
    with running(root) as journal:
        journal.seal(DAY)
    assert sealed_numbers(root) == list(range(appended))
