"""What a person sees keeps clear of the column of scores, however narrow the terminal is."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from consumer.commands import rendering

FOUND: dict[str, Any] = {
    "missing": [],
    "results": [
        {
            "score": 0.581,
            "day": "2017-07-04",
            "first": "2017-07-04T17:17:00Z",
            "last": "2017-07-04T17:59:00Z",
            "events": 211,
            "source_ips": {"172.16.0.1": 211},
            "destination_ips": {"192.168.10.50": 211},
            "text": "Dozens of repeated logins from one host, like password guessing.",
            "verdicts": {"malicious, high score": 90, "benign": 121},
        }
    ],
}
NEIGHBOUR: dict[str, Any] = {
    "missing": [],
    "results": [
        {
            "score": 1.0,
            "day": "2017-07-04",
            "time": "2017-07-04T17:16:00Z",
            "event_id": "detector-01-0002269",
            "classification": "MALICIOUS",
            "threat_category": "NORMAL",
            "source_ip": "172.16.0.1",
            "destination_ip": "192.168.10.50",
            "destination_port": 22,
        }
    ],
}
ALIKE: dict[str, Any] = {
    "day": "2017-07-07",
    "missing": [],
    "results": [
        {
            "score": 0.959,
            "day": "2017-07-06",
            "by_index": {"timeseries": 0.912, "semantic": 0.985, "attack": 0.982},
            "why": ["flagged DDOS on both: 207 and 13 events", "about as many events"],
        }
    ],
}


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize(
    ("show", "answer"),
    [
        (rendering.search, FOUND),
        (rendering.neighbours, NEIGHBOUR),
        (rendering.similar, ALIKE),
    ],
)
def test_a_result_begins_with_its_score_and_goes_on_beside_it(
    show: Callable[[Console, dict[str, Any]], None], answer: dict[str, Any], width: int
) -> None:
    out = io.StringIO()
    show(Console(file=out, width=width, highlight=False), answer)
    first, *others = out.getvalue().splitlines()
    assert first.startswith(f"{answer['results'][0]['score']:.3f}  2017-07-0")
    assert all(line.startswith(" " * 7) and line[7] != " " for line in others)
    assert all(len(line) <= width and line == line.rstrip() for line in (first, *others))


def test_no_word_of_a_result_is_lost_in_a_narrow_terminal() -> None:
    out = io.StringIO()
    rendering.search(Console(file=out, width=40, highlight=False), FOUND)
    told = " ".join(out.getvalue().split())
    assert FOUND["results"][0]["text"] in told
    assert "172.16.0.1 to 192.168.10.50" in told
    assert "verdicts: 121 benign, 90 malicious" in told
