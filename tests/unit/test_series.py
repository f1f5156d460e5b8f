from pathlib import Path

import numpy as np
import pytest

from embed.distinct import DistinctPerMinute, address_value
from embed.series import SERIES, DaySeries, DayTable
from tests.embed_samples import Timed, batches, event, sample, span


def table(events: list[Timed], *, size: int = 1000, hours: int = 24) -> DayTable:
    series = DaySeries(span(len(events), hours=hours))
    for batch in batches(events, size):
        series.add(batch)
    return series.finish()


def at(found: DayTable, name: str, minute: int) -> float:
    return float(found.values[SERIES.index(name), minute])


def test_each_series_is_counted_per_minute() -> None:
    found = table(
        [
            event(61, overall_threat_score=0.2),
            event(62, network_source_ip="10.0.0.8", network_destination_port=80),
            event(119, overall_threat_score=0.9),
            event(120),
        ]
    )
    minute = {name: at(found, name, 1) for name in SERIES}
    assert minute == {
        "events": 3.0,
        "bytes": 3 * 4700.0,
        "packets": 150.0,
        "sources": 2.0,
        "ports": 2.0,
        "mean_score": pytest.approx(0.4),
        "max_score": pytest.approx(0.9),
        "alerts": 1.0,
    }
    assert at(found, "events", 2) == 1.0
    assert found.values[:, 3:].sum() == 0.0


@pytest.mark.parametrize(("hours", "minutes"), [(23, 1380), (24, 1440), (25, 1500)])
def test_the_series_are_as_long_as_the_day(hours: int, minutes: int) -> None:
    found = table([event(hours * 3600 - 1)], hours=hours)
    assert found.values.shape == (8, minutes)
    assert at(found, "events", minutes - 1) == 1.0


def test_an_absent_score_takes_no_part_in_the_mean() -> None:
    found = table([event(0, overall_threat_score=-9999.0), event(1, overall_threat_score=0.5)])
    assert at(found, "mean_score", 0) == pytest.approx(0.5)


def test_an_event_without_network_details_counts_as_an_event_only() -> None:
    bare = event(0)
    bare[1].ClearField("network_features")
    found = table([bare])
    assert [at(found, name, 0) for name in ("events", "bytes", "sources", "ports")] == [1, 0, 0, 0]


def test_neither_the_order_nor_the_batches_change_a_bit() -> None:
    events = list(sample()[:3000])
    start = events[0][0] // 86_400_000_000_000
    events = [timed for timed in events if timed[0] // 86_400_000_000_000 == start]
    one = table(events)
    shuffled = [events[i] for i in np.random.default_rng(0).permutation(len(events))]
    other = table(shuffled, size=7)
    assert one.values.tobytes() == other.values.tobytes()
    assert one.fingerprint == other.fingerprint


def test_a_day_without_events_is_all_zero() -> None:
    found = table([])
    assert not found.values.any()
    assert (found.events, found.minutes) == (0, 1440)


def test_huge_counts_neither_overflow_nor_lose_their_place() -> None:
    found = table([event(0, network_total_forward_bytes=10**15)] * 500)
    assert at(found, "bytes", 0) == pytest.approx(500 * 1e15)


def keys(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 20, count), rng.integers(0, 400, count)


def test_distinct_values_are_exact_in_memory_and_on_disk(tmp_path: Path) -> None:
    minutes, values = keys(20_000, 1)
    expected = [len(set(values[minutes == minute].tolist())) for minute in range(20)]
    for most in (1_000_000, 500):
        counter = DistinctPerMinute(20, most_keys=most, scratch=tmp_path)
        for start in range(0, len(values), 97):
            counter.add(minutes[start : start + 97], values[start : start + 97])
        assert counter.counts().tolist() == expected
        counter.close()
    assert list(tmp_path.iterdir()) == []


def test_memory_of_distinct_values_is_bounded(tmp_path: Path) -> None:
    counter = DistinctPerMinute(20, most_keys=300, scratch=tmp_path)
    for seed in range(200):
        counter.add(*keys(100, seed))
        assert counter._held <= 400
    counter.close()


def test_addresses_become_numbers_of_their_own() -> None:
    assert address_value("0.0.1.2") == 258
    assert address_value("fe80::1") == address_value("fe80:0:0:0::1")
    values = [address_value(text) for text in ("fe80::1", "fe80::2", "", "sensor", "1.2.3.4")]
    assert len(set(values)) == 5
    assert max(values) < 2**53
