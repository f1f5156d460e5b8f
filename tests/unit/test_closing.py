from datetime import date

import pytest

from consumer.folding.closing import CloseRule, DayFacts

S = 1_000_000_000
END = 1_500_000_000 * S
RULE = CloseRule(grace_s=600, settle_s=120)


def facts(*, sealed: bool = False, last_append_ns: int = 0) -> DayFacts:
    return DayFacts(date(2017, 7, 4), END, sealed, last_append_ns)


@pytest.mark.parametrize(
    ("after_end_s", "due"), [(-3600, False), (0, False), (599, False), (600, True), (9999, True)]
)
def test_a_day_closes_when_the_clock_is_past_its_end_plus_grace(
    after_end_s: int, due: bool
) -> None:
    clock = END + after_end_s * S
    assert RULE.due(facts(), day_clock_ns=clock, arrival_clock_ns=clock) is due


@pytest.mark.parametrize(("quiet_s", "due"), [(0, False), (119, False), (120, True)])
def test_late_events_make_a_new_revision_once_they_have_settled(quiet_s: int, due: bool) -> None:
    clock = END + 86_400 * S
    late = facts(sealed=True, last_append_ns=clock - quiet_s * S)
    assert RULE.due(late, day_clock_ns=clock, arrival_clock_ns=clock) is due


def test_a_clock_that_was_set_back_does_not_hold_up_a_new_revision() -> None:
    """Its last event came, by the clock of then, days from now: that is no reason to wait days."""
    clock = END + 86_400 * S
    from_ahead = facts(sealed=True, last_append_ns=clock + 3 * 86_400 * S)
    assert RULE.due(from_ahead, day_clock_ns=clock, arrival_clock_ns=clock)
    just_now = facts(sealed=True, last_append_ns=clock + S)
    assert not RULE.due(just_now, day_clock_ns=clock, arrival_clock_ns=clock)


def test_a_first_close_does_not_wait_for_quiet() -> None:
    clock = END + 600 * S
    busy = facts(sealed=False, last_append_ns=clock)
    assert RULE.due(busy, day_clock_ns=clock, arrival_clock_ns=clock)


def test_settling_is_measured_on_the_wall_clock_even_in_replay() -> None:
    wall = END + 10**9 * S
    late = facts(sealed=True, last_append_ns=wall - 5 * S)
    assert not RULE.due(late, day_clock_ns=END + 700 * S, arrival_clock_ns=wall)
