import json
import random
from collections.abc import Iterable

import pytest

from consumer.errors import DayfoldError
from consumer.wire.losses import Losses, LossLedger


def noted(*parts: Iterable[int]) -> LossLedger:
    ledger = LossLedger()
    for part in parts:
        for counter in part:
            ledger.note("detector", counter)
    return ledger


def losses(*parts: Iterable[int]) -> Losses:
    return noted(*parts).facts("detector")


def figures(*parts: Iterable[int]) -> tuple[int, int, int, int]:
    facts = losses(*parts)
    return facts.received, facts.lost, facts.repeats, facts.epochs


def test_nothing_seen_is_all_zero() -> None:
    assert LossLedger().facts("detector") == Losses(0, 0, 0, 0, 0, None, ())


def test_counters_in_order_lose_nothing() -> None:
    assert figures(range(10_000)) == (10_000, 0, 0, 1)


def test_the_first_counter_seen_is_the_base() -> None:
    assert figures(range(7_000, 7_100)) == (100, 0, 0, 1)


def test_a_gap_is_lost_exactly() -> None:
    assert figures(range(10), range(25, 30)) == (15, 15, 0, 1)


def test_a_gap_wider_than_the_window_is_lost_exactly() -> None:
    assert figures(range(10), range(1_000_000, 1_000_010)) == (20, 999_990, 0, 1)


def test_a_counter_seen_again_is_a_repeat() -> None:
    assert figures(range(100), [98, 99, 99], range(100, 110)) == (110, 0, 3, 1)


def test_a_late_counter_no_longer_counts_as_lost() -> None:
    assert figures(range(100), range(110, 120), [105]) == (111, 9, 0, 1)


def test_a_late_counter_that_comes_again_is_a_repeat() -> None:
    assert figures(range(100), range(110, 120), [105, 105]) == (111, 9, 1, 1)


def test_late_counters_are_found_at_both_ends_of_the_window() -> None:
    assert figures([0], [4_195, 100]) == (3, 4_193, 0, 1)
    assert figures([0], [4_196, 100]) == (2, 4_195, 1, 1)


def test_a_block_that_is_late_as_a_whole_is_not_a_new_epoch() -> None:
    assert figures(range(10), range(20, 40), range(10, 20), range(40, 50)) == (50, 0, 0, 1)


def test_shuffling_within_the_window_counts_nothing_as_lost() -> None:
    counters = list(range(500, 4_500))
    random.Random(3).shuffle(counters)
    assert figures(range(500), counters, range(4_500, 4_600)) == (4_600, 0, 0, 1)


def test_a_restart_at_zero_is_a_new_epoch() -> None:
    assert figures(range(100_000), range(50)) == (100_050, 0, 0, 2)


def test_a_restart_soon_after_a_start_is_a_new_epoch() -> None:
    assert figures(range(20), range(10), range(10, 30)) == (50, 0, 0, 2)


def test_what_a_new_epoch_sent_before_it_was_heard_is_lost() -> None:
    assert figures(range(100_000), range(700, 800)) == (100_100, 700, 0, 2)


def test_losses_among_the_first_of_a_new_epoch_are_counted() -> None:
    assert figures(range(100_000), [2, 5, 9, 10]) == (100_004, 7, 0, 2)


def test_holes_of_the_old_epoch_are_not_filled_by_the_new_one() -> None:
    old = [*range(5), *range(30, 200)]
    facts = losses([9_000, 9_001, 9_002], old, range(60))
    assert [(e.first_counter, e.received, e.lost, e.repeats) for e in facts.history] == [
        (9_000, 3, 0, 0),
        (0, 175, 25, 0),
        (0, 60, 0, 0),
    ]


def test_two_counters_of_a_new_epoch_do_not_confirm_it() -> None:
    assert figures(range(100_000), [0, 1]) == (100_000, 0, 2, 1)


def test_one_old_counter_again_and_again_is_never_a_new_epoch() -> None:
    assert figures(range(100_000), [5] * 1_000) == (100_000, 0, 1_000, 1)


def test_old_counters_far_apart_are_repeats() -> None:
    assert figures(range(100_000), [10, 90, 170, 250, 330]) == (100_000, 0, 5, 1)


def test_old_counters_between_live_ones_are_repeats() -> None:
    mixed = [counter for live in range(50) for counter in (100_000 + live, live)]
    assert figures(range(100_000), mixed) == (100_050, 0, 50, 1)


def test_a_replayed_run_is_taken_back_when_the_old_epoch_goes_on() -> None:
    assert figures(range(100_000), range(500), range(100_000, 100_010)) == (100_010, 0, 500, 1)


def test_a_replayed_run_is_taken_back_across_a_small_loss() -> None:
    assert figures(range(100_000), range(500), range(100_030, 100_040)) == (100_010, 30, 500, 1)


def test_a_message_of_an_earlier_epoch_replayed_ahead_is_taken_back() -> None:
    assert figures(range(100_000), range(50), [90_000], range(50, 100)) == (100_100, 0, 1, 2)


def test_a_replayed_run_and_a_leap_are_taken_back_together() -> None:
    replayed = [*range(50), 60_000, 60_001, *range(700, 710)]
    assert figures(range(100_000), replayed, range(100_000, 100_010)) == (100_010, 0, 62, 1)


def test_a_leap_that_goes_on_stays_lost() -> None:
    assert figures(range(100), range(50_000, 60_000)) == (10_100, 49_900, 0, 1)


def test_a_restart_right_after_a_restart_counts_both() -> None:
    assert figures(range(9_000), range(10), range(10), range(100)) == (9_120, 0, 0, 4)


def test_a_new_epoch_may_outgrow_the_old_one() -> None:
    assert figures(range(1_000), range(5_000)) == (6_000, 0, 0, 2)


def test_detectors_are_counted_apart() -> None:
    ledger = LossLedger()
    for counter in range(10):
        ledger.note("a", counter)
        ledger.note("b", 2 * counter)
    assert ledger.facts("a").lost == 0
    assert ledger.facts("b").lost == 9
    assert ledger.detectors() == ["a", "b"]


def test_a_forgotten_detector_begins_anew() -> None:
    ledger = noted(range(10))
    ledger.forget("detector")
    ledger.note("detector", 50)
    assert ledger.facts("detector").received == 1


@pytest.mark.parametrize("counter", [-1, 1 << 64])
def test_a_counter_outside_64_bits_is_refused(counter: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        LossLedger().note("detector", counter)


def test_the_highest_counter_of_64_bits_is_counted() -> None:
    assert figures([(1 << 64) - 1]) == (1, 0, 0, 1)


def test_the_history_keeps_the_last_epochs_and_the_sums_keep_all() -> None:
    ledger = noted(range(10_000, 10_010), *(range(10) for _ in range(40)))
    facts = ledger.facts("detector")
    assert facts.epochs == 41
    assert facts.received == 410
    assert len(facts.history) == 32
    assert facts.history[-1].epoch == 41


def test_counting_goes_on_after_a_restart_of_the_service() -> None:
    counters = [*range(300), *range(310, 9_000), *range(20), 70_000, 3, 1, 2, *range(20, 5_000)]
    whole = noted(counters)
    for cut in (0, 1, 305, 8_990, 8_995, 9_003, 9_011, 9_012, 9_015, 9_500):
        state = json.loads(json.dumps(noted(counters[:cut]).to_json()))
        resumed = LossLedger.from_json(state)
        for counter in counters[cut:]:
            resumed.note("detector", counter)
        assert resumed.to_json() == whole.to_json(), cut


def test_what_is_missed_while_the_service_is_down_is_lost() -> None:
    ledger = LossLedger.from_json(noted(range(10)).to_json())
    ledger.note("detector", 60)
    assert ledger.facts("detector").lost == 50


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"version": 2, "detectors": {}},
        {"version": 1, "detectors": []},
        {"version": 1, "detectors": {"a": {}}},
        {"version": 1, "detectors": {"a": {"current": {"figures": [1, 2], "seen": "0"}}}},
        {"version": 1, "detectors": {"a": {"current": {"figures": [1] * 6, "seen": "f" * 2000}}}},
    ],
)
def test_a_state_that_was_not_saved_by_a_ledger_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(DayfoldError, match="remove them"):
        LossLedger.from_json(state)


def test_memory_is_bounded_whatever_counters_come() -> None:
    chance = random.Random(5)
    ledger = LossLedger()
    for _ in range(20_000):
        ledger.note("detector", chance.randrange(1 << 64))
        ledger.note("detector", chance.randrange(200))
    assert len(json.dumps(ledger.to_json())) < 32_768
