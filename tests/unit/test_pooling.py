import numpy as np
import pytest

from embed.coverage import check_coverage, covered, window_shares, windows
from embed.errors import CoverageError
from embed.fingerprint import Fingerprint
from embed.pooling import hour_code, level_code, normalise, rotate, two_voices
from tests.embed_samples import span


def units(count: int, size: int, seed: int = 0) -> np.ndarray:
    return normalise(np.random.default_rng(seed).standard_normal((count, size)))


def test_rows_get_length_one_and_a_row_of_zeros_a_direction() -> None:
    found = normalise(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [1.0, 0.0]]


def test_rotation_keeps_lengths_and_angles() -> None:
    a, b = units(2, 512).astype(float)
    assert rotate(a, "x") @ rotate(b, "x") == pytest.approx(a @ b, abs=1e-12)
    assert np.linalg.norm(rotate(a, "x")) == pytest.approx(np.linalg.norm(a))


def test_rotations_by_different_keys_are_nearly_orthogonal() -> None:
    same = units(1, 512)[0]
    turned = np.stack([rotate(same, f"key {i}") for i in range(30)])
    likeness = np.abs(turned @ turned.T - np.eye(30))
    assert likeness.max() < 0.2


def test_a_rotation_is_the_same_on_every_machine() -> None:
    expected = [-0.707107, 4.949747, -4.949747, -4.949747, 4.949747, 3.535534, 2.12132, 4.949747]
    assert rotate(np.arange(8.0), "key").round(6).tolist() == expected


def test_only_a_power_of_two_can_be_rotated() -> None:
    with pytest.raises(ValueError, match="not a power of two"):
        rotate(np.zeros(384), "key")


def test_equal_levels_overlap_a_doubling_less_and_four_doublings_hardly() -> None:
    base = level_code([1000.0] * 16, 512)
    overlap = [float(base @ level_code([1000.0 * 2**n] * 16, 512)) for n in (0, 1, 2, 4)]
    assert overlap[0] == pytest.approx(1.0)
    assert overlap == sorted(overlap, reverse=True)
    assert overlap[1] == pytest.approx(0.78, abs=0.05)
    assert overlap[3] < 0.05


def test_one_flagged_event_moves_a_day_however_many_ordinary_ones_there_are() -> None:
    ordinary, attack = units(200, 384), units(1, 384, seed=1)
    for repeats in (1, 50, 100_000):
        counts = np.full(200, repeats)
        quiet = two_voices(ordinary, counts, np.zeros(200, bool))
        hit = two_voices(np.vstack((ordinary, attack)), np.append(counts, 1), np.arange(201) == 200)
        assert float((quiet @ hit.T)[0, 0]) < 0.8


def test_a_new_attack_among_other_attacks_moves_the_day_more_than_it_would_move_a_mean() -> None:
    rows, flags = units(61, 384), np.arange(61) >= 40
    counts = np.full(61, 1000)
    counts[60] = 1
    before = two_voices(rows[:60], counts[:60], flags[:60])
    after = two_voices(rows, counts, flags)
    mean = normalise((counts[:, None] * rows).sum(0))
    mean_before = normalise((counts[:60, None] * rows[:60]).sum(0))
    moved = np.linalg.norm(after - before)
    assert moved > 10 * np.linalg.norm(mean - mean_before)


def test_a_day_without_events_still_has_a_row() -> None:
    found = two_voices(np.zeros((0, 8), np.float32), np.zeros(0, int), np.zeros(0, bool))
    assert np.linalg.norm(found) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("length", "limit", "overlap"),
    [(0, 10, 2), (10, 10, 2), (11, 10, 2), (97, 10, 9), (300, 254, 32)],
)
def test_windows_touch_every_position_and_none_is_over_the_limit(
    length: int, limit: int, overlap: int
) -> None:
    cuts = windows(length, limit, overlap)
    assert covered(length, cuts) == length
    assert all(0 < end - start <= limit for start, end in cuts)
    assert window_shares(length, cuts).sum() == pytest.approx(1.0 if length else 0.0)


def test_shared_positions_weigh_no_more_than_others() -> None:
    shares = window_shares(15, [(0, 10), (5, 15)])
    assert shares.tolist() == [pytest.approx(0.5), pytest.approx(0.5)]


def test_windows_that_leave_something_out_are_refused() -> None:
    with pytest.raises(CoverageError, match="leave 1 of 11"):
        window_shares(11, [(0, 10)])


def test_whole_coverage_passes() -> None:
    check_coverage(span(5), {"events": 5, "minutes": 1440}, index="timeseries")
    check_coverage(span(5), {"events": 5, "tokens_in": 7, "tokens_embedded": 7}, index="semantic")


@pytest.mark.parametrize(
    ("coverage", "index", "message"),
    [
        ({"events": 4}, None, "4 of 5 events"),
        ({"events": 6}, "attack", "6 of 5 events"),
        ({"events": 5, "minutes": 1439}, None, "1,439 of 1,440 minutes"),
        ({"events": 5}, "timeseries", "no count of minutes"),
        ({"events": 5, "tokens_in": 9, "tokens_embedded": 8}, "semantic", "8 of 9 tokens"),
        ({"events": 5, "tokens_in": 9}, None, "0 of 9 tokens"),
        ({}, None, "no count of events"),
    ],
)
def test_a_gap_in_the_coverage_is_refused(
    coverage: dict[str, int], index: str | None, message: str
) -> None:
    with pytest.raises(CoverageError, match=message):
        check_coverage(span(5), coverage, index=index)


def test_a_fingerprint_does_not_depend_on_order_and_does_on_every_value() -> None:
    rows = np.random.default_rng(0).integers(0, 2**60, (50, 9)).astype(np.uint64)
    one, other, changed = Fingerprint(), Fingerprint(), Fingerprint()
    one.add(rows)
    other.add(rows[30:][::-1])
    other.add(rows[:30])
    touched = rows.copy()
    touched[17, 3] += np.uint64(1)
    changed.add(touched)
    assert str(one) == str(other) != str(changed)


def test_swapping_two_values_between_events_changes_the_fingerprint() -> None:
    one, other = Fingerprint(), Fingerprint()
    one.add_floats(np.array([[1.0, 2.0], [3.0, 4.0]]))
    other.add_floats(np.array([[1.0, 4.0], [3.0, 2.0]]))
    assert str(one) != str(other)


def test_missing_values_and_zeros_have_one_fingerprint() -> None:
    one, other = Fingerprint(), Fingerprint()
    one.add_floats(np.array([[np.nan, 0.0]]))
    other.add_floats(np.array([[-np.nan, -0.0]]))
    assert str(one) == str(other)


def test_a_day_that_begins_later_has_another_hour_code_the_more_the_later() -> None:
    minutes = np.arange(1440)
    day = np.tile(np.where((minutes > 480) & (minutes < 1020), 5.0, 0.2), (8, 1))
    base = hour_code(day, 512)
    overlap = [float(base @ hour_code(np.roll(day, 60 * hours, 1), 512)) for hours in (0, 1, 3, 6)]
    assert overlap[0] == pytest.approx(1.0)
    assert overlap == sorted(overlap, reverse=True)
    assert overlap[1] > 0.8
    assert overlap[3] < 0.5


def test_an_hour_code_does_not_see_a_doubled_volume_but_for_the_quiet_hours() -> None:
    day = np.tile(50 + 40 * np.sin(np.arange(1440) / 229), (8, 1))
    assert float(hour_code(day, 512) @ hour_code(2 * day, 512)) > 0.999


@pytest.mark.parametrize("minutes", [1380, 1440, 1500])
def test_an_hour_code_takes_days_of_any_length_and_even_ones(minutes: int) -> None:
    assert hour_code(np.ones((8, minutes)), 512) == pytest.approx(np.zeros(512))
    assert np.isfinite(hour_code(np.zeros((8, minutes)), 512)).all()


def test_hours_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        hour_code(np.ones((8, 1440)), 128)
