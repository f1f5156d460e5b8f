"""A retry in slices: nothing twice, nothing left, whatever happens between two of them."""

from pathlib import Path

import pytest

from consumer.clock import ManualClock
from consumer.quarantine.quarantine import Quarantine, Quarantined
from consumer.quarantine.retry import SLICE_BYTES, SLICE_MESSAGES, Retry
from tests.unit.test_quarantine import MIB, NOW_NS, number_of, numbers, opened, put

REASON = "unknown_key"


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return opened(tmp_path / "quarantine", ManualClock(NOW_NS), max_bytes=64 * MIB)


class Handled:
    """Takes every message that is not a multiple of three, and remembers all."""

    def __init__(self, quarantine: Quarantine) -> None:
        self.seen: list[int] = []
        self.settled = 0
        self.retry = Retry(quarantine, self.take, settle=self.settle)

    def take(self, message: Quarantined) -> bool:
        self.seen.append(number_of(message))
        return self.seen[-1] % 3 != 0

    def settle(self) -> None:
        self.settled += 1

    def ask(self) -> None:
        self.retry.ask((REASON, "tampered"))

    def slices(self) -> list[int]:
        """Step to the end; how many messages each slice handed over."""
        sizes = []
        more = True
        while more:
            before = len(self.seen)
            more = self.retry.step()
            sizes.append(len(self.seen) - before)
        return sizes


def test_nothing_is_handed_over_unless_it_is_asked_for(quarantine: Quarantine) -> None:
    put(quarantine, 1)
    handled = Handled(quarantine)
    assert not handled.retry.step()
    assert handled.seen == []


def test_a_slice_is_bounded_in_messages_and_all_are_tried_once(quarantine: Quarantine) -> None:
    count = 3 * SLICE_MESSAGES + 10
    for number in range(count):
        put(quarantine, number)
    put(quarantine, count, reason="tampered")
    handled = Handled(quarantine)
    handled.ask()
    assert max(handled.slices()) == SLICE_MESSAGES
    assert handled.seen == list(range(count + 1))
    assert numbers(quarantine) == list(range(0, count, 3))
    assert handled.settled == 2


def test_a_slice_is_bounded_in_bytes(quarantine: Quarantine) -> None:
    for number in range(6):
        put(quarantine, number, size=SLICE_BYTES // 2)
    handled = Handled(quarantine)
    handled.ask()
    assert max(handled.slices()) == 2
    assert numbers(quarantine) == [0, 3]


def test_what_is_put_between_two_slices_waits_for_the_next_round(quarantine: Quarantine) -> None:
    for number in range(SLICE_MESSAGES + 1):
        put(quarantine, number)
    handled = Handled(quarantine)
    handled.ask()
    handled.retry.step()
    put(quarantine, 1000)
    handled.slices()
    assert 1000 not in handled.seen
    handled.ask()
    handled.slices()
    assert 1000 in handled.seen


def test_what_is_purged_between_two_slices_is_not_handed_over(quarantine: Quarantine) -> None:
    for number in range(2 * SLICE_MESSAGES):
        put(quarantine, number)
    handled = Handled(quarantine)
    handled.ask()
    handled.retry.step()
    quarantine.purge(REASON)
    handled.slices()
    assert handled.seen == list(range(SLICE_MESSAGES))
    assert quarantine.counts() == {}


def test_what_another_takes_between_two_slices_is_not_handed_over_again(
    quarantine: Quarantine,
) -> None:
    """As a request to forget a day does: it writes the file anew, and every message moves."""
    count = 2 * SLICE_MESSAGES
    for number in range(count):
        put(quarantine, number)
    handled = Handled(quarantine)
    handled.ask()
    handled.retry.step()
    quarantine.take(REASON, lambda message: number_of(message) >= count - 10)
    handled.slices()
    assert max(handled.seen) == count - 11
    assert numbers(quarantine) == list(range(0, count - 10, 3))


def test_being_asked_in_the_middle_of_a_round_makes_another_round(quarantine: Quarantine) -> None:
    for number in range(SLICE_MESSAGES + 5):
        put(quarantine, number)
    handled = Handled(quarantine)
    handled.ask()
    handled.retry.step()
    handled.ask()
    handled.slices()
    assert handled.seen.count(0) == 2
    assert handled.seen.count(1) == 1


def test_an_error_ends_the_round_and_keeps_what_was_not_taken(quarantine: Quarantine) -> None:
    def fail_at_three(message: Quarantined) -> bool:
        if number_of(message) == 3:
            raise RuntimeError("the journal has stopped")
        return True

    for number in range(5):
        put(quarantine, number)
    retry = Retry(quarantine, fail_at_three, settle=lambda: None)
    retry.ask((REASON,))
    with pytest.raises(RuntimeError, match="stopped"):
        retry.step()
    assert numbers(quarantine) == [3, 4]
    assert not retry.step()
