"""From the detector's socket to three indices, on real processes, and the questions after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from consumer.care.verify import verify_data
from consumer.questions.recall import Recall
from tests.integration.conftest import DAYS, FoldedDays

INDICES = ("timeseries", "semantic", "attack")
FOURTH = date(2017, 7, 4)
TOP = Path(__file__).resolve().parents[2]


def dayfold(folded: FoldedDays, *arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "consumer",
            *arguments,
            "--config",
            str(folded.deployment.config),
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def get(folded: FoldedDays, path: str) -> Any:
    with urllib.request.urlopen(folded.picture["service"]["api"] + path, timeout=60) as answer:
        body = answer.read().decode()
    return (
        json.loads(body) if answer.headers["content-type"].startswith("application/json") else body
    )


def test_all_that_was_published_is_in_the_journal(
    folded: FoldedDays, sample_days: dict[date, int]
) -> None:
    intake = folded.picture["intake"]
    assert folded.published == sum(sample_days.values())
    assert intake["received"] == intake["journaled"] == folded.published
    assert (intake["duplicates"], intake["quarantined"]) == (0, 0)
    assert [link["losses"]["lost"] for link in folded.picture["detectors"]] == [0]
    counted = {date.fromisoformat(d["day"]): d["events"] for d in folded.picture["days"]}
    assert counted == sample_days


def test_every_day_is_whole_in_all_three_indices(folded: FoldedDays) -> None:
    code, days = dayfold(folded, "days")
    assert code == 0
    assert [day["day"] for day in days] == [str(day) for day in DAYS]
    for day in days:
        assert day["state"] == "committed"
        assert {index["revision"] for index in day["indices"].values()} == {day["revision"]}
        assert all(day["indices"][name]["rows"] > 0 for name in INDICES)
        coverage = day["coverage"]
        assert coverage["timeseries"]["minutes"] == 1440
        assert coverage["semantic"]["tokens_in"] == coverage["semantic"]["tokens_embedded"] > 0
        assert {coverage[name]["events"] for name in INDICES} == {day["events"]}


def test_ssh_brute_force_is_found_on_the_fourth_of_july(
    folded: FoldedDays, labels: dict[str, str]
) -> None:
    code, answer = dayfold(folded, "search", "ssh brute force", "-k", "5")
    assert code == 0
    first = answer["results"][0]
    assert first["day"] == "2017-07-04"
    found = Counter(labels[event] for event in first["event_ids"])
    assert found.most_common(1)[0][0] == "SSH-Patator"
    assert [result["day"] for result in answer["results"][:3]] == ["2017-07-04"] * 3


@pytest.mark.parametrize("attack", ["SSH-Patator", "FTP-Patator", "DoS Hulk", "DDoS", "Portscan"])
def test_neighbours_of_an_attack_flow_are_flows_of_the_same_attack(
    folded: FoldedDays, labels: dict[str, str], attack: str
) -> None:
    right = total = 0
    with Recall.open(folded.settings) as recall:
        flows = [event for event, label in labels.items() if label == attack]
        for event in flows[:: len(flows) // 5][:5]:
            results = recall.neighbours(event, k=5)["results"]
            assert event not in {result["event_id"] for result in results}
            right += sum(labels[result["event_id"]] == attack for result in results)
            total += len(results)
    assert total == 25
    assert right >= 23, f"{right} of {total} neighbours are {attack}"


def test_similar_says_why(folded: FoldedDays) -> None:
    code, answer = dayfold(folded, "similar", "2017-07-07", "-k", "4")
    assert code == 0
    assert len(answer["results"]) == 4
    scores = [result["score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    for result in answer["results"]:
        assert set(result["by_index"]) == set(INDICES)
        assert result["why"]
        assert all(isinstance(line, str) and line for line in result["why"])


def test_search_keeps_to_the_days_and_conditions_asked_for(folded: FoldedDays) -> None:
    _, answer = dayfold(folded, "search", "ssh brute force", "--from", "2017-07-05")
    assert {result["day"] for result in answer["results"]} <= {
        "2017-07-05",
        "2017-07-06",
        "2017-07-07",
    }
    _, answer = dayfold(folded, "search", "many connections", "--where", "destination_port=21")
    assert answer["results"]
    assert all("21" in result["destination_ports"] for result in answer["results"])


def test_novelty_gives_a_value_between_0_and_1_or_none(folded: FoldedDays) -> None:
    code, answer = dayfold(folded, "novelty")
    assert code == 0
    assert [entry["day"] for entry in answer["days"]] == [str(day) for day in DAYS]
    assert answer["days"][0]["novelty"] is None
    assert all(0 <= entry["novelty"] <= 1 for entry in answer["days"][1:])


def test_what_is_not_there_is_named(folded: FoldedDays) -> None:
    code, said = dayfold(folded, "show", "2017-07-09")
    assert code == 2
    assert "2017-07-09" in said
    code, said = dayfold(folded, "neighbours", "no-such-event")
    assert code == 2
    assert "no-such-event" in said


def test_http_gives_the_same_answers(folded: FoldedDays) -> None:
    assert get(folded, "/healthz") == {"ok": True}
    assert get(folded, "/readyz")["ok"] is True
    assert get(folded, "/v1/days") == dayfold(folded, "days")[1]
    assert get(folded, "/v1/days/2017-07-04")["events"] > 0
    over_http = get(folded, "/v1/search?q=ssh%20brute%20force&k=3")
    assert over_http == dayfold(folded, "search", "ssh brute force", "-k", "3")[1]
    assert get(folded, "/v1/similar/2017-07-04?k=2")["day"] == "2017-07-04"
    assert "/v1/neighbours/{event_id}" in get(folded, "/openapi.json")["paths"]
    assert "dayfold_ready 1.0" in get(folded, "/metrics")
    assert f"dayfold_journaled_total {folded.published:.1f}" in get(folded, "/metrics").replace(
        "e+03", ""
    )


def test_http_says_404_for_a_day_that_is_not_there(folded: FoldedDays) -> None:
    with pytest.raises(HTTPError) as refused:
        get(folded, "/v1/days/2031-01-01")
    with refused.value:
        assert refused.value.code == 404


def test_the_http_process_is_started_again(folded: FoldedDays) -> None:
    children = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(folded.picture["service"]["pid"])],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout.splitlines()
    api = next(int(line.split()[0]) for line in children if "consumer.web.api" in line)
    os.kill(api, signal.SIGKILL)
    folded.deployment.wait_for("the answer", lambda _: _answers(folded), timeout_s=30)


def _answers(folded: FoldedDays) -> bool:
    try:
        urllib.request.urlopen(folded.picture["service"]["api"] + "/healthz", timeout=1).close()
    except OSError:
        return False
    return True


def test_verify_finds_everything_in_order(folded: FoldedDays) -> None:
    answer = verify_data(folded.settings, deep=True)
    assert answer["faults"] == []
    assert answer["checked"]["days"] == 5


def test_status_shows_registry_and_detector(folded: FoldedDays) -> None:
    code, picture = dayfold(folded, "status")
    assert code == 0
    assert picture["ready"] is True
    assert picture["registry"]["kind"] == "etcd"
    assert picture["registry"]["connected"] is True


def test_no_secret_is_in_status_or_logs(folded: FoldedDays) -> None:
    seed = (folded.deployment.folder / "seed.bin").read_bytes().hex()
    assert seed not in json.dumps(dayfold(folded, "status")[1])
    assert seed not in (folded.deployment.folder / "service.log").read_text()
    assert seed not in get(folded, "/metrics")


def test_a_second_service_on_the_same_folder_refuses(folded: FoldedDays) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "consumer", "run", "--config", str(folded.deployment.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert str(folded.picture["service"]["pid"]) in done.stderr


def test_closing_a_closed_day_changes_nothing(folded: FoldedDays) -> None:
    before = dayfold(folded, "show", "2017-07-04")[1]
    code, after = dayfold(folded, "close", "2017-07-04")
    assert code == 0
    assert after == before


def test_the_transcript_in_the_readme_is_what_is_printed(folded: FoldedDays) -> None:
    """But for scores and counts of attack rows, whose last digits may be another machine's own."""

    def printed(*arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "consumer", *arguments, "--config", folded.deployment.config],
            env={**os.environ, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return [line.rstrip() for line in done.stdout.splitlines()]

    readme = (TOP / "README.md").read_text(encoding="utf-8")
    question = printed("search", "ssh brute force", "-k", "3")
    first = question[: next(n for n, line in enumerate(question[1:], 1) if line[0] != " ")]
    for line in (*(line[5:] for line in first), *(line[:-9] for line in printed("days"))):
        assert line in readme
