"""Prometheus metrics, made from the service's picture when they are asked for.

Nothing is counted twice and nothing on the way of an event touches a metrics library. Every name
is documented in `docs/metrics.md`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Picture = Mapping[str, Any]

INTAKE_COUNTERS = {
    "received": "Messages taken from reception.",
    "received_bytes": "Bytes of these messages, sealed.",
    "journaled": "Events appended to the journal.",
    "duplicates": "Events that were there before, dropped.",
    "late": "Events for a day that was closed before.",
    "filtered": "Events that a detector's profile does not want, dropped.",
    "quarantined": "Messages that could not be accepted.",
    "retried": "Messages admitted out of the quarantine.",
}


class PictureCollector(Collector):
    """Turns one picture into metrics.

    Args:
        picture: gives the latest picture, or None if there is none.
        ready: says whether the picture is of a service that is ready.
    """

    def __init__(
        self, picture: Callable[[], Picture | None], ready: Callable[[Picture], bool]
    ) -> None:
        self._picture = picture
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        """All metrics of the moment."""
        picture = self._picture()
        ready = picture is not None and self._ready(picture)
        yield GaugeMetricFamily(
            "dayfold_ready", "1 while the service is ready to receive.", value=float(ready)
        )
        if picture is None:
            return
        yield from _intake(picture)
        yield from _detectors(picture)
        yield from _folding(picture)
        yield from _surroundings(picture)


def _intake(picture: Picture) -> Iterator[Metric]:
    intake, journal = picture["intake"], picture["journal"]
    for name, meaning in INTAKE_COUNTERS.items():
        yield CounterMetricFamily(f"dayfold_{name}", meaning, value=intake.get(name, 0))
    yield CounterMetricFamily(
        "dayfold_durable", "Events that are on the disk for certain.", value=journal["durable"]
    )
    refused = CounterMetricFamily(
        "dayfold_refused", "Messages sent to quarantine, by reason.", labels=["reason"]
    )
    for reason, count in intake["refused"].items():
        refused.add_metric([reason], count)
    yield refused
    waiting = GaugeMetricFamily(
        "dayfold_quarantine_messages", "Messages in quarantine, by reason.", labels=["reason"]
    )
    for reason, count in picture["quarantine"]["reasons"].items():
        waiting.add_metric([reason], count)
    yield waiting
    dropped = CounterMetricFamily(
        "dayfold_quarantine_dropped",
        "Messages that left a full or aged quarantine, by reason.",
        labels=["reason"],
    )
    for reason, count in picture["quarantine"]["dropped"].items():
        dropped.add_metric([reason], count)
    yield dropped


def _detectors(picture: Picture) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "dayfold_detector_connected", "1 while the detector is connected.", labels=["detector"]
    )
    received = CounterMetricFamily(
        "dayfold_detector_received", "Messages received from a detector.", labels=["detector"]
    )
    lost = GaugeMetricFamily(
        "dayfold_detector_lost",
        "Messages lost on the wire, by the gaps of the counter nonces.",
        labels=["detector"],
    )
    dropped = CounterMetricFamily(
        "dayfold_detector_dropped",
        "Messages dropped here because the hand-over was full.",
        labels=["detector"],
    )
    epochs = GaugeMetricFamily(
        "dayfold_detector_epochs", "Runs of the detector seen so far.", labels=["detector"]
    )
    gaps = CounterMetricFamily(
        "dayfold_detector_gap_windows",
        "Times between a disconnect and the next connect.",
        labels=["detector"],
    )
    for link in picture["detectors"]:
        label = [link["detector"]]
        connected.add_metric(label, float(link["connected"]))
        received.add_metric(label, link["received"])
        # What a full hand-over dropped leaves a gap in the counters too.
        lost.add_metric(label, max(0, link["losses"]["lost"] - link["dropped"]))
        dropped.add_metric(label, link["dropped"])
        epochs.add_metric(label, link["losses"]["epochs"])
        gaps.add_metric(label, link["gaps_total"])
    yield from (connected, received, lost, dropped, epochs, gaps)


def _folding(picture: Picture) -> Iterator[Metric]:
    fold = picture["fold"]
    if fold is not None:
        yield CounterMetricFamily("dayfold_folds", "Folds run.", value=fold["folds"])
        yield CounterMetricFamily(
            "dayfold_fold_failures", "Indices that a fold left behind.", value=fold["failures"]
        )
        yield GaugeMetricFamily(
            "dayfold_fold_last_seconds", "Length of the last fold.", value=fold["last_seconds"]
        )
    states = dict.fromkeys(("open", "closing", "committed", "degraded"), 0)
    rows = dict.fromkeys(("timeseries", "semantic", "attack"), 0)
    behind = dict.fromkeys(rows, 0)
    for day in picture["days"]:
        states[day["state"]] += 1
        for name, index in day["indices"].items():
            rows[name] += index["rows"] or 0
            behind[name] += index["state"] != "committed"
    by_state = GaugeMetricFamily("dayfold_days", "Days, by state.", labels=["state"])
    for state, count in states.items():
        by_state.add_metric([state], count)
    by_index = GaugeMetricFamily("dayfold_index_rows", "Rows of an index.", labels=["index"])
    late = GaugeMetricFamily(
        "dayfold_index_behind_days", "Days that an index is behind with.", labels=["index"]
    )
    for name, count in rows.items():
        by_index.add_metric([name], count)
        late.add_metric([name], behind[name])
    yield from (by_state, by_index, late)


def _surroundings(picture: Picture) -> Iterator[Metric]:
    registry, disk = picture["registry"], picture["disk"]
    yield GaugeMetricFamily(
        "dayfold_registry_connected",
        "1 while we are registered.",
        value=float(registry["connected"]),
    )
    yield CounterMetricFamily(
        "dayfold_registry_reregistrations",
        "Times that a lost lease was replaced by a new one.",
        value=registry["reregistrations"],
    )
    yield GaugeMetricFamily(
        "dayfold_clock_doubted_seconds",
        "How far the clock jumped ahead (or back) and is not believed yet; 0 if it is.",
        value=picture["clock"]["doubted_by_s"],
    )
    yield GaugeMetricFamily(
        "dayfold_disk_free_bytes", "Free space of the data folder.", value=disk["free_mb"] * 2**20
    )
    yield GaugeMetricFamily(
        "dayfold_disk_room", "0 while reception is stopped for lack of room.", float(disk["room"])
    )
