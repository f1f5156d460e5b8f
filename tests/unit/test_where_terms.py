import json
from typing import Any

import pytest

from index.terms import TermMatch

EVENT = {
    "source_ip": "10.0.0.7",
    "destination_port": 443,
    "threat_category": "DDoS",
    "score": 0.25,
    "encrypted": True,
}
DESCRIPTION = {
    "source_ips": {"10.0.0.7": 12, "10.0.0.70": 1},
    "destination_ports": {"443": 3, "8080": 1},
    "categories": {"ddos": 3},
    "event_ids": ["node-1", "node-2"],
}


@pytest.mark.parametrize(
    ("field", "value", "detail", "matches"),
    [
        ("source_ip", "10.0.0.7", EVENT, True),
        ("source_ip", "10.0.0", EVENT, False),
        ("source_ip", "10.0.0.7", DESCRIPTION, True),
        ("source_ips", "10.0.0.7", DESCRIPTION, True),
        ("source_ip", "12", DESCRIPTION, False),
        ("destination_ip", "10.0.0.7", EVENT, False),
        ("destination_port", "443", EVENT, True),
        ("destination_port", 443, EVENT, True),
        ("destination_port", "443", DESCRIPTION, True),
        ("destination_port", "44", EVENT, False),
        ("threat_category", "ddos", EVENT, True),
        ("threat_category", "DDOS", DESCRIPTION, True),
        ("score", "0.25", EVENT, True),
        ("score", 0.25, EVENT, True),
        ("score", "0.250", EVENT, True),
        ("encrypted", "true", EVENT, True),
        ("encrypted", True, EVENT, True),
        ("encrypted", "1", EVENT, False),
        ("event_id", "node-2", DESCRIPTION, True),
        ("event_id", "node", DESCRIPTION, False),
        ("nonsense", "10.0.0.7", EVENT, False),
        ("label", "none", {"label": None}, False),
        ("label", "null", {"label": None}, False),
        ("label", "none", {"label": [None, 7]}, False),
        ("label", "none", {"label": "None"}, True),
    ],
)
def test_a_condition_matches_a_value_a_list_or_the_keys_of_a_map(
    field: str, value: str | float, detail: dict[str, Any], matches: bool
) -> None:
    assert TermMatch(field, value).matches(detail) is matches


@pytest.mark.parametrize("value", ["100%", "a_b", 'say "x"', "back\\slash", "tab\there", "é"])
def test_marks_that_mean_something_to_like_or_json_are_taken_as_they_are(value: str) -> None:
    term = TermMatch("label", value)
    assert term.matches(json.loads(json.dumps({"label": value})))
    assert not term.matches({"label": value.replace("%", "x").replace("_", "x") + "!"})
