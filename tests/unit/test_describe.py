import re
from typing import Any

import pytest

from embed.addresses import host_kind
from embed.behaviour import behaviours
from embed.company import ALONE, BUCKET_NS, STEPS, CompanyBook
from embed.describe import describe, verdict_of, without_verdict
from embed.services import service_of
from embed.wording import category_words, plain
from tests.embed_samples import Timed, batches, event, sample, span


def texts(*events: Timed) -> list[str]:
    book = CompanyBook()
    found = []
    for batch in batches(events):
        found += [describe(b) for b in behaviours(batch, span(len(events)), book)]
    return found


def text(**changes: Any) -> str:
    return texts(event(changes.pop("at_s", 0.0), **changes))[0]


def test_a_session_reads_as_an_analyst_would_write_it() -> None:
    assert text(at_s=14 * 3600) == (
        "SSH (secure shell remote login) over TCP between internal hosts. "
        "Sends some and receives some data, dozens of packets, lasting seconds. In the afternoon. "
        "The detector says benign, low score."
    )


def test_equal_behaviours_read_equal_whatever_the_exact_numbers_and_addresses() -> None:
    other = text(
        network_source_ip="10.0.0.8",
        network_total_forward_bytes=2_300,
        network_flow_duration_microseconds=9_500_000,
        overall_threat_score=0.12,
    )
    assert other == text()


def test_no_address_is_in_any_sentence() -> None:
    found = texts(*sample()[:2000])
    assert not [line for line in found if re.search(r"\d+\.\d+\.\d+\.\d+", line)]


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        ("192.168.1.4", "10.2.0.1", "between internal hosts"),
        ("192.168.1.4", "8.8.8.8", "Outbound SSH"),
        ("192.168.1.4", "8.8.8.8", "to an external host"),
        ("1.1.1.1", "192.168.1.4", "Inbound SSH"),
        ("192.168.1.4", "192.168.1.255", "to everyone on the network (broadcast traffic)"),
        (
            "192.168.1.4",
            "239.255.255.250",
            "to a group of hosts (multicast traffic to a group address)",
        ),
        ("fe80::1", "2001:4860::1", "Outbound SSH"),
        ("", "what", "from an unknown host to an unknown host"),
    ],
)
def test_the_ends_and_the_direction_are_told(source: str, destination: str, words: str) -> None:
    assert words in text(network_source_ip=source, network_destination_ip=destination)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("100.64.3.1", "internal"),
        ("169.254.0.9", "internal"),
        ("fd00::1", "internal"),
        ("::ffff:10.0.0.1", "internal"),
        ("127.0.0.1", "loopback"),
        ("255.255.255.255", "broadcast"),
        ("93.184.216.255", "external"),
        ("::", "unknown"),
        ("ff02::fb", "multicast"),
    ],
)
def test_addresses_are_of_a_kind(address: str, kind: str) -> None:
    assert host_kind(address) == kind


@pytest.mark.parametrize(
    ("port", "words"),
    [
        (21, "FTP"),
        (22, "SSH"),
        (53, "DNS"),
        (80, "HTTP"),
        (445, "SMB"),
        (3389, "RDP"),
        (444, "unusual low port"),
        (12_345, "uncommon service port"),
        (60_000, "high dynamic port"),
    ],
)
def test_services_are_called_by_their_names(port: int, words: str) -> None:
    assert words in service_of(port).text
    assert words in text(network_destination_port=port)


def test_an_answer_is_told_from_a_request() -> None:
    found = text(network_source_port=53, network_destination_port=50_111)
    assert "Reply of DNS (name lookup)" in found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network_total_backward_packets": 0}, "unanswered"),
        ({"network_rst_flag_count": 1}, "cut off by a reset"),
        (
            {
                "network_rst_flag_count": 1,
                "network_total_forward_bytes": 0,
                "network_total_backward_bytes": 0,
            },
            "Carries no data (empty), dozens of packets, lasting seconds, refused with a reset",
        ),
        ({"network_fin_flag_count": 0}, "never closed"),
        ({"network_flow_duration_microseconds": 3_000}, "brief (under a second)"),
        (
            {"network_flow_duration_microseconds": 3_000_000_000},
            "very long (stays open for tens of minutes or more)",
        ),
        ({"network_total_backward_bytes": 5_000_000_000}, "receives gigabytes of data"),
        ({"network_total_backward_bytes": 0}, "sends some and receives no data"),
    ],
)
def test_volume_duration_and_flags_are_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert words.lower() in text(**changes).lower()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"final_classification": "MALICIOUS"}, "The detector says malicious, low score"),
        ({"overall_threat_score": 0.5}, "moderate score"),
        ({"overall_threat_score": 0.95}, "high score"),
        ({"final_classification": ""}, "The detector says low score"),
        ({"threat_category": "DDOS"}, "category DDoS"),
        ({"threat_category": "LATERAL_MOVEMENT"}, "category lateral movement"),
        (
            {"fast_detector_triggered": True, "fast_detector_reason": "SYN_FLOOD rate=15.2/s"},
            "fast detector fired: syn flood rate s",
        ),
        (
            {"fast_detector_triggered": True, "fast_detector_reason": "STAT_ANOMALY"},
            "fast detector fired: statistical anomaly",
        ),
    ],
)
def test_verdicts_are_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in text(**changes)


def test_places_warnings_and_doubts_are_told() -> None:
    at_ns, message = event()
    message.geo_enrichment.source_ip_geo.country_name = "Iceland"
    message.geo_enrichment.source_ip_geo.is_tor_exit_node = True
    message.decision_metadata.score_divergence = 0.4
    message.decision_metadata.anomaly_flags.append("ODD_HOURS")
    message.network_features.ransomware.rdp_failed_auth_count = 3
    message.human_review.requires_human_analysis = True
    found = texts((at_ns, message))[0]
    for words in (
        "source in iceland",
        "source is a Tor exit node",
        "the detectors disagree",
        "odd hours",
        "failed remote desktop logins",
        "an analyst is asked to look",
    ):
        assert words in found


def test_the_sentinel_and_nan_say_nothing() -> None:
    at_ns, message = event()
    message.decision_metadata.score_divergence = float("nan")
    message.network_features.ransomware.dns_query_entropy = -9999.0
    message.network_features.ransomware.failed_dns_queries_ratio = float("nan")
    assert texts((at_ns, message))[0] == text()


def test_the_time_of_day_is_that_of_the_day_in_its_own_zone() -> None:
    told = [without_verdict(text(at_s=hour * 3600 + 1800)) for hour in (2, 8, 14, 20)]
    hours = [one.rsplit(". ", 1)[1] for one in told]
    assert hours == ["At night.", "In the morning.", "In the afternoon.", "In the evening."]


def test_what_happened_and_what_the_detector_says_can_be_told_apart() -> None:
    calm, alarmed = text(), text(final_classification="MALICIOUS", overall_threat_score=0.95)
    assert calm != alarmed
    assert without_verdict(calm) == without_verdict(alarmed)
    assert verdict_of(alarmed) == "malicious, high score"
    assert calm == f"{without_verdict(calm)} The detector says {verdict_of(calm)}."


def test_without_any_verdict_the_behaviour_is_the_whole_description() -> None:
    blank = text(final_classification="", threat_category="", overall_threat_score=float("nan"))
    assert blank == without_verdict(text())
    assert without_verdict(blank) == blank
    assert verdict_of(blank) == ""


def test_an_event_without_network_details_is_described_by_its_verdict() -> None:
    at_ns, message = event(final_classification="MALICIOUS")
    message.ClearField("network_features")
    assert texts((at_ns, message))[0] == (
        "Event without network details. At night. The detector says malicious, low score."
    )


def test_free_text_loses_numbers_and_addresses_and_nothing_else() -> None:
    assert plain("SYN_FLOOD: rate=1523.2/s from 10.0.0.7") == "syn flood rate s from an address"
    assert plain("lateralMovement\n detected (99%)") == "lateral movement detected"
    assert plain("seen fe80::12:1 again") == "seen an address again"
    long = " ".join(f"word{chr(97 + i % 26)}" for i in range(500))
    assert plain(long) == long


def test_a_category_that_says_nothing_is_left_out() -> None:
    assert [category_words(word) for word in ("NORMAL", "", "UNKNOWN")] == ["", "", ""]


def repeated(count: int, **changes: Any) -> list[Timed]:
    return [event(3600 + i, **changes) for i in range(count)]


def test_repeated_logins_read_like_password_guessing() -> None:
    found = texts(*repeated(STEPS[1]))
    assert found[STEPS[0] - 2] == found[0]
    assert found[STEPS[0] - 1].startswith(
        "Several repeated logins from one host, like password guessing (brute force), SSH"
    )
    assert found[STEPS[1] - 1].startswith("Dozens of repeated logins")


def test_many_ports_without_payload_read_like_a_port_scan() -> None:
    empty = {"network_total_forward_bytes": 0, "network_total_backward_bytes": 0}
    probes = [event(60 + i, network_destination_port=i + 1, **empty) for i in range(STEPS[1])]
    found = texts(*probes)
    assert "Port scan: one host probes dozens of different ports of another" in found[-1]
    assert "port scan" not in found[0].lower()


def test_one_service_on_many_hosts_reads_like_a_sweep() -> None:
    empty = {"network_total_forward_bytes": 0, "network_total_backward_bytes": 0}
    probes = [
        event(
            60 + i, network_destination_ip=f"10.0.1.{i + 1}", network_destination_port=445, **empty
        )
        for i in range(STEPS[0])
    ]
    assert "Network sweep" in texts(*probes)[-1]


def test_floods_and_slow_floods_of_a_web_server_are_told_apart() -> None:
    web = {"network_destination_port": 80}
    assert "Flood of hundreds of web requests" in texts(*repeated(STEPS[2], **web))[-1]
    slow = {
        "network_flow_duration_microseconds": 90_000_000,
        "network_total_backward_bytes": 0,
        **web,
    }
    assert "slow denial of service" in texts(*repeated(STEPS[0], **slow))[-1]


def test_ordinary_use_is_not_taken_for_an_attack() -> None:
    lookups = repeated(100, network_destination_port=53, network_protocol_number=17)
    browsing = repeated(30, network_destination_port=443, network_destination_ip="1.2.3.4")
    for events in (lookups, browsing):
        assert not [
            line for line in texts(*events) if re.search("guessing|scan|flood|sweep|exfil", line)
        ]


def test_much_data_from_a_port_without_a_name_reads_like_a_leak() -> None:
    large = {"network_total_backward_bytes": 5_000_000}
    assert text(network_destination_port=444, **large).startswith(
        "Large download from an unusual port, like a data leak, TCP to an unusual low port"
    )
    assert text(network_destination_port=443, **large).startswith("Large download, HTTPS")


def test_many_requests_in_one_session_are_an_attack_on_a_form_only_on_the_way_in() -> None:
    busy = {
        "network_destination_port": 80,
        "network_forward_psh_flags": 100,
        "network_flow_duration_microseconds": 30_000_000,
    }
    assert "attack on a web form" in text(**busy)
    assert "attack" not in text(network_destination_ip="8.8.8.8", **busy)


def test_bulk_and_quiet_connections_out_of_the_network_are_told() -> None:
    out = {"network_destination_ip": "8.8.8.8", "network_destination_port": 444}
    assert "like data exfiltration" in text(network_total_forward_bytes=2_000_000, **out)
    quiet = text(network_flow_duration_microseconds=100_000_000, network_idle_mean=2e7, **out)
    assert "like a beacon" in quiet


def test_counts_forget_what_was_more_than_two_buckets_ago() -> None:
    book = CompanyBook()
    for i in range(STEPS[0]):
        company = book.note(i, "a", "b", 22)
    assert company.same == 1
    assert book.note(BUCKET_NS, "a", "b", 22).same == 1
    assert book.note(3 * BUCKET_NS, "a", "b", 22) == ALONE


def test_an_event_that_came_late_is_described_on_its_own() -> None:
    book = CompanyBook()
    book.note(10 * BUCKET_NS, "a", "b", 22)
    assert book.note(1, "a", "b", 22) is ALONE


def test_an_event_of_the_bucket_before_still_counts_there() -> None:
    book = CompanyBook()
    for i in range(STEPS[0] - 1):
        book.note(BUCKET_NS - 10 + i, "a", "b", 22)
    book.note(BUCKET_NS, "x", "y", 1)
    assert book.note(BUCKET_NS - 1, "a", "b", 22).same == 1


def test_the_book_holds_no_more_than_its_limit_and_counts_too_low_never_too_high() -> None:
    book = CompanyBook(most_entries=10)
    for i in range(1000):
        book.note(i, f"source {i}", "b", i)
    tables = (book._now.same.seen, book._now.ports.seen, book._now.hosts.seen)
    assert all(len(table) <= 10 for table in tables)
    assert book.note(1000, "source 999", "b", 999) == ALONE
