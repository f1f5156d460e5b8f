"""Whatever step of a seal is the last one before a crash, closing again ends well."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumer.journal import Journal, verify_day
from tests.journal_kit import (
    DAY,
    assert_once,
    events,
    kill,
    make_journal,
    running,
    sealed_numbers,
)

#: Syncs and renames in one seal: the two folders with new names in them, then sidecar, seal and
#: counts, each with its folder.
STEPS = 2 + 3 * 3


class CrashError(BaseException):
    """The moment at which the process is gone."""


class Countdown:
    """Lets so many steps pass, then is a crash, and stays one."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def before(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            if self.left == 0:
                raise CrashError
            self.left -= 1
            return step(*arguments)

        return counted


def alone(root: Path) -> Journal:
    """A journal whose threads do nothing by themselves."""
    journal = make_journal(root, commit_interval_s=3600)
    journal.start()
    journal._commits.stop()
    journal._house.stop()
    return journal


def seal_until(journal: Journal, steps: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Seal the day; crash after `steps` steps. True if there was a crash."""
    countdown = Countdown(steps)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", countdown.before(os.fsync))
        patch.setattr(Path, "replace", countdown.before(Path.replace))
        try:
            journal.seal(DAY)
        except CrashError:
            return True
    return False


@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_a_first_seal_that_was_interrupted(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "journal"
    journal = alone(root)
    journal.append(events(range(5)))
    assert seal_until(journal, steps, monkeypatch) is (steps < STEPS)
    kill(journal)
    with running(root) as journal:
        assert journal.append(events(range(5))).added == 0
        assert journal.seal(DAY).revision == 1
    assert_once(sealed_numbers(root), range(5))
    assert verify_day(root, DAY) == []
    assert not list(root.rglob("*.tmp"))


@pytest.mark.parametrize("steps", range(STEPS))
def test_a_later_seal_that_was_interrupted(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "journal"
    journal = alone(root)
    journal.append(events(range(5)))
    journal.seal(DAY)
    journal.append(events(range(5, 9)))
    assert seal_until(journal, steps, monkeypatch)
    kill(journal)
    assert sealed_numbers(root, revision=1) == list(range(5))
    with running(root) as journal:
        assert journal.append(events(range(9))).added == 0
        assert journal.seal(DAY).revision == 2
        assert journal.counts(DAY).late == 4
    assert_once(sealed_numbers(root), range(9))
    assert sealed_numbers(root, revision=1) == list(range(5))
    assert verify_day(root, DAY) == []


def test_events_that_come_during_a_seal_belong_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "journal"
    with running(root) as journal:
        journal.append(events(range(5)))
        finish = journal._house.finish_retired

        def append_meanwhile(state: Any) -> None:
            finish(state)
            assert journal.append(events(range(3, 9))).late == 4

        monkeypatch.setattr(journal._house, "finish_retired", append_meanwhile)
        assert journal.seal(DAY).events == 5
        monkeypatch.undo()
        assert journal.unsealed(DAY)
        assert sealed_numbers(root) == list(range(5))
        assert journal.seal(DAY).revision == 2
    assert_once(sealed_numbers(root), range(9))
