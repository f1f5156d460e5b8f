from prometheus_client import CollectorRegistry

from consumer.health.metrics import PictureCollector
from tests.unit.pictures import full_picture


def registry(*, ready: bool = True, there: bool = True) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(
        PictureCollector(lambda: full_picture() if there else None, lambda _picture: ready)
    )
    return made


def test_counts_of_the_picture_are_the_counts_of_the_metrics() -> None:
    metrics = registry()
    assert metrics.get_sample_value("dayfold_journaled_total") == 10
    assert metrics.get_sample_value("dayfold_refused_total", {"reason": "schema"}) == 1
    labels = {"detector": "detector-01"}
    assert metrics.get_sample_value("dayfold_detector_lost", labels) == 3
    assert metrics.get_sample_value("dayfold_days", {"state": "degraded"}) == 1
    assert metrics.get_sample_value("dayfold_index_behind_days", {"index": "attack"}) == 1
    assert metrics.get_sample_value("dayfold_index_behind_days", {"index": "semantic"}) == 0


def test_a_service_that_is_not_ready_says_so_and_still_counts() -> None:
    metrics = registry(ready=False)
    assert metrics.get_sample_value("dayfold_ready") == 0
    assert metrics.get_sample_value("dayfold_received_total") == 12


def test_without_a_service_there_is_only_not_ready() -> None:
    metrics = registry(there=False)
    assert metrics.get_sample_value("dayfold_ready") == 0
    assert metrics.get_sample_value("dayfold_received_total") is None
