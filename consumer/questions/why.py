"""Why two days are alike or not, in sentences made from the facts of their day rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from embed.describe import without_verdict
from index.chunks import StoredRow

SERIES_IN_WORDS = {
    "events": "events",
    "bytes": "traffic volume",
    "packets": "packets",
    "sources": "different sources",
    "ports": "different destination ports",
    "alerts": "alerts",
}
SAME_WITHIN = 1.25
FAR_APART = 3.0
MOST_REASONS = 6


def explain(day: Mapping[str, StoredRow], other: Mapping[str, StoredRow]) -> list[str]:
    """Reasons, the telling ones first; at least one, at most six.

    Args:
        day: the facts of the day asked about, by index; an index that lacks it is missing.
        other: those of the day it is compared with.
    """
    reasons: list[str] = []
    if "attack" in day and "attack" in other:
        reasons += _attacks(day["attack"].detail, other["attack"].detail)
    if "semantic" in day and "semantic" in other:
        reasons += _behaviours(day["semantic"].detail, other["semantic"].detail)
    if "timeseries" in day and "timeseries" in other:
        reasons += _shape(day["timeseries"].detail, other["timeseries"].detail)
    return reasons[:MOST_REASONS] or ["nothing stands out: the days are alike in no single way"]


def _attacks(day: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    here, there = _alarming(day), _alarming(other)
    shared = sorted(set(here) & set(there), key=lambda name: -min(here[name], there[name]))
    for name in shared:
        yield f"flagged {name} on both: {here[name]:,} and {there[name]:,} events"
    for name in sorted(set(here) - set(there)):
        yield f"flagged {name} only on this day: {here[name]:,} events"
    for name in sorted(set(there) - set(here)):
        yield f"flagged {name} only on the other day: {there[name]:,} events"


def _alarming(day: Mapping[str, Any]) -> dict[str, int]:
    categories: Mapping[str, int] = day.get("categories") or {}
    return {name: count for name, count in categories.items() if name != "NORMAL"}


def _behaviours(day: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for key, words in (("top_flagged", "both raised alarms for"), ("top", "both are full of")):
        here = {entry["text"]: entry["count"] for entry in day.get(key, ())}
        there = {entry["text"]: entry["count"] for entry in other.get(key, ())}
        shared = [text for text in here if text in there]
        if shared:
            text = shared[0]
            yield f"{words}: {_in_short(text)} ({here[text]:,} and {there[text]:,} events)"
            return


def _in_short(text: str) -> str:
    """What happened in a description, for the middle of a sentence."""
    return without_verdict(text).rstrip(".")


def _shape(day: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    here, there = day["series"], other["series"]
    same: list[str] = []
    for name, words in SERIES_IN_WORDS.items():
        mine, theirs = here[name]["total"], there[name]["total"]
        if not mine and not theirs:
            continue
        ratio = (mine + 1) / (theirs + 1)
        if 1 / SAME_WITHIN <= ratio <= SAME_WITHIN:
            same.append(words)
        elif ratio >= FAR_APART:
            yield f"{ratio:.0f} times the {words} of the other day"
        elif ratio <= 1 / FAR_APART:
            yield f"the other day has {1 / ratio:.0f} times the {words}"
    if same:
        yield "about as many " + ", ".join(same)
    mine, theirs = _busiest_hour(here), _busiest_hour(there)
    if mine == theirs:
        yield f"both busiest in the hour from {mine:02d}:00"
    else:
        yield f"busiest from {mine:02d}:00, the other day from {theirs:02d}:00"


def _busiest_hour(series: Mapping[str, Any]) -> int:
    hours = series["events"]["hours"]
    return int(max(range(len(hours)), key=hours.__getitem__))
