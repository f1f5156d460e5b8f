import json

import pytest
from structlog.testing import capture_logs

from consumer.registry.directory import Change, Directory
from consumer.registry.entries import Layout

LAYOUT = Layout()
SERVICES = LAYOUT.services("ml-detector")
CRYPTO = LAYOUT.crypto()
HEX = "0f" * 32
OTHER_HEX = "1e" * 32


@pytest.fixture
def directory() -> Directory:
    return Directory(LAYOUT, "ml-detector")


def detector(name: str, endpoint: str = "tcp://a:1", revision: int = 1, **facts: object) -> Change:
    value = json.dumps({"endpoint": endpoint, **facts}).encode()
    return Change(SERVICES + name, revision, value)


def key(key_id: str, material: str = HEX, revision: int = 1) -> Change:
    value = json.dumps({"scheme": "secretbox-v0", "key": material}).encode()
    return Change(LAYOUT.crypto_key("ml-detector", key_id), revision, value)


def key_ids(directory: Directory) -> list[str]:
    keys = directory.keys()
    return [entry.key_id for entry in keys]


def gone(change: Change, revision: int = 9) -> Change:
    return Change(change.key, revision, None)


def broken(change: Change, revision: int = 2) -> Change:
    return Change(change.key, revision, b"{" + HEX.encode())


def test_detectors_come_and_go_with_changes(directory: Directory) -> None:
    assert directory.apply([detector("d2"), detector("d1")])
    assert [entry.instance for entry in directory.detectors()] == ["d1", "d2"]
    assert directory.apply([gone(detector("d1"))])
    assert [entry.instance for entry in directory.detectors()] == ["d2"]


def test_a_listing_removes_what_it_does_not_have(directory: Directory) -> None:
    directory.apply([detector("d1"), detector("d2"), key("k1")])
    assert directory.replace(SERVICES, [detector("d2"), detector("d3")])
    assert [entry.instance for entry in directory.detectors()] == ["d2", "d3"]
    assert key_ids(directory) == ["k1"]


def test_a_listing_that_says_nothing_new_changes_nothing(directory: Directory) -> None:
    directory.replace(SERVICES, [detector("d1")])
    assert not directory.replace(SERVICES, [detector("d1")])


def test_a_detector_that_moves_is_a_change(directory: Directory) -> None:
    directory.apply([detector("d1")])
    assert directory.apply([detector("d1", "tcp://b:2")])
    assert directory.detectors()[0].endpoints == ("tcp://b:2",)


def test_new_facts_of_a_detector_are_a_change(directory: Directory) -> None:
    directory.apply([detector("d1")])
    assert directory.apply([detector("d1", curve_server_key="x")])
    assert directory.detectors()[0].facts["curve_server_key"] == "x"


def test_keys_are_ordered_by_their_last_writing(directory: Directory) -> None:
    directory.replace(CRYPTO, [key("a", revision=7), key("b", revision=3), key("c", revision=5)])
    assert key_ids(directory) == ["b", "c", "a"]
    directory.apply([key("b", OTHER_HEX, revision=8)])
    assert key_ids(directory) == ["c", "a", "b"]


def test_a_key_that_is_deleted_is_gone(directory: Directory) -> None:
    directory.apply([key("k1")])
    assert directory.apply([gone(key("k1"))])
    assert directory.keys() == []


def test_a_malformed_value_leaves_the_last_readable_one_in_force(directory: Directory) -> None:
    directory.apply([detector("d1"), key("k1")])
    assert not directory.apply([broken(detector("d1")), broken(key("k1"))])
    assert directory.detectors()[0].endpoints == ("tcp://a:1",)
    assert directory.keys()[0].material == HEX


def test_malformed_values_are_counted_and_named(directory: Directory) -> None:
    directory.apply([broken(detector("d1")), broken(key("k1"))])
    count, reasons = directory.faults()
    assert count == 2
    assert reasons == {detector("d1").key: "it is not JSON", key("k1").key: "it is not JSON"}


def test_a_malformed_value_seen_again_in_a_listing_counts_once(directory: Directory) -> None:
    directory.apply([broken(detector("d1"))])
    directory.replace(SERVICES, [broken(detector("d1"))])
    assert directory.faults()[0] == 1


@pytest.mark.parametrize("mended", [detector("d1", revision=3), gone(detector("d1"))])
def test_a_fault_is_over_when_its_value_is_mended_or_gone(
    directory: Directory, mended: Change
) -> None:
    directory.apply([broken(detector("d1")), mended])
    assert directory.faults() == (1, {})


def test_a_flood_of_malformed_values_is_counted_but_not_kept(directory: Directory) -> None:
    directory.apply([broken(detector(f"d{n}")) for n in range(100)])
    count, reasons = directory.faults()
    assert (count, len(reasons)) == (100, 20)


def test_other_components_and_strange_keys_are_passed_over(directory: Directory) -> None:
    strange = [
        Change(LAYOUT.services("sniffer") + "s1", 1, b'{"endpoint": "tcp://a:1"}'),
        Change(CRYPTO + "loose", 1, b"x"),
        Change(SERVICES + "a/b", 1, b"x"),
    ]
    assert not directory.apply(strange)
    assert (directory.detectors(), directory.keys(), directory.faults()) == ([], [], (0, {}))


def test_no_key_material_reaches_the_log(directory: Directory) -> None:
    with capture_logs() as logs:
        directory.apply([key("k1"), key("k1", OTHER_HEX), broken(key("k1")), gone(key("k1"))])
    assert len(logs) == 4
    assert HEX not in repr(logs)
    assert OTHER_HEX not in repr(logs)


def test_the_repr_of_a_change_hides_its_value() -> None:
    assert HEX not in repr(key("k1"))
