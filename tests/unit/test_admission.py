from datetime import date
from zoneinfo import ZoneInfo

import pytest

from consumer.days import MAX_NS, NS_PER_DAY, NS_PER_SECOND
from consumer.wire.admission import Admission, Refused
from consumer.wire.admitted import Admitted
from proto.network_security_pb2 import NetworkSecurityEvent

pytestmark = pytest.mark.usefixtures("each_way")

UTC = ZoneInfo("UTC")
NOON_NS = 1_499_169_600 * NS_PER_SECOND  # 2017-07-04 12:00 UTC
UNKNOWN_FIELD = b"\xf8\x3f\x01"  # number 1023


def message(event_id: str = "e1", seconds: int = 0, nanos: int = 0, node: str = "node") -> bytes:
    event = NetworkSecurityEvent(event_id=event_id, originating_node_id=node)
    event.event_timestamp.seconds = seconds
    event.event_timestamp.nanos = nanos
    return event.SerializeToString()


def at(ns: int, event_id: str = "e1") -> bytes:
    return message(event_id, *divmod(ns, NS_PER_SECOND))


def admitted(admission: Admission, payload: bytes, arrival_ns: int = NOON_NS) -> Admitted:
    answer = admission.admit(payload, None, arrival_ns)
    assert isinstance(answer, Admitted)
    return answer


def refused(admission: Admission, payload: bytes, arrival_ns: int = NOON_NS) -> Refused:
    answer = admission.admit(payload, None, arrival_ns)
    assert isinstance(answer, Refused)
    return answer


@pytest.fixture
def admission() -> Admission:
    return Admission(UTC)


def test_a_plausible_own_time_decides_the_day(admission: Admission) -> None:
    own_ns = NOON_NS - 2 * NS_PER_DAY + 123
    event = admitted(admission, at(own_ns))
    assert (event.time_ns, event.own_time, event.day) == (own_ns, True, date(2017, 7, 2))


@pytest.mark.parametrize(
    ("offset_ns", "own_time"),
    [(-7 * NS_PER_DAY, True), (-7 * NS_PER_DAY - 1, False), (300 * NS_PER_SECOND, True)],
)
def test_the_limits_of_plausibility_are_inclusive(
    admission: Admission, offset_ns: int, own_time: bool
) -> None:
    event = admitted(admission, at(NOON_NS + offset_ns))
    assert event.own_time is own_time
    assert event.time_ns == (NOON_NS + offset_ns if own_time else NOON_NS)


def test_an_event_from_the_future_is_refused(admission: Admission) -> None:
    answer = refused(admission, at(NOON_NS + 300 * NS_PER_SECOND + 1))
    assert answer.reason == "future"
    assert "2017-07-04T12:05:00" in answer.detail
    assert admission.facts().future == 1


def test_a_clock_that_counts_from_boot_gives_way_to_the_arrival(admission: Admission) -> None:
    event = admitted(admission, at(123_456 * NS_PER_SECOND))
    assert (event.time_ns, event.own_time, event.day) == (NOON_NS, False, date(2017, 7, 4))
    assert admission.facts().boot_clock == 1


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [
        (-1, 0),
        (-(2**63), 0),
        (NOON_NS // NS_PER_SECOND, -1),
        (NOON_NS // NS_PER_SECOND, 10**9),
        (0, 2**31 - 1),
        (0, 0),
    ],
)
def test_absurd_timestamps_give_way_to_the_arrival(
    admission: Admission, seconds: int, nanos: int
) -> None:
    event = admitted(admission, message("e1", seconds, nanos))
    assert (event.time_ns, event.own_time) == (NOON_NS, False)


@pytest.mark.parametrize("event_clock", [False, True])
def test_a_time_beyond_all_calendars_is_the_future(event_clock: bool) -> None:
    admission = Admission(UTC, event_clock=event_clock)
    assert refused(admission, message("e1", 2**63 - 1, 999_999_999)).reason == "future"


def test_an_event_without_a_timestamp_gets_its_arrival(admission: Admission) -> None:
    event = NetworkSecurityEvent(event_id="1")
    assert admitted(admission, event.SerializeToString()).time_ns == NOON_NS
    assert admission.facts().no_time == 1


@pytest.mark.parametrize("payload", [b"\x0a\xff", b"\x0a\x02\xff\xfe", b"", UNKNOWN_FIELD])
def test_bytes_that_are_not_the_schema_are_refused(admission: Admission, payload: bytes) -> None:
    assert refused(admission, payload).reason == "schema"
    assert admission.facts().schema == 1


def test_an_event_that_says_only_what_happened_is_admitted(admission: Admission) -> None:
    event = NetworkSecurityEvent(final_classification="MALICIOUS")
    assert admitted(admission, event.SerializeToString()).day == date(2017, 7, 4)
    assert admission.facts().empty_id == 1


def test_events_without_an_id_differ_by_their_payload(admission: Admission) -> None:
    one = NetworkSecurityEvent(originating_node_id="node", threat_category="DDOS")
    other = NetworkSecurityEvent(originating_node_id="node", threat_category="SCAN")
    digests = {admitted(admission, event.SerializeToString()).digest for event in (one, other)}
    assert len(digests) == 2
    assert admission.facts().empty_id == 2


def test_a_repeat_has_the_same_digest_though_it_arrives_later(admission: Admission) -> None:
    boot_clock = at(55 * NS_PER_SECOND)
    first = admitted(admission, boot_clock, NOON_NS)
    second = admitted(admission, boot_clock, NOON_NS + NS_PER_DAY)
    assert first.digest == second.digest


@pytest.mark.parametrize(
    "other", [message("e1", 5, node="n2"), message("e2", 5), message("e1", 9), message("e1", 5, 1)]
)
def test_each_part_of_the_identity_counts(admission: Admission, other: bytes) -> None:
    assert admitted(admission, message("e1", 5)).digest != admitted(admission, other).digest


def test_the_smaller_of_block_and_payload_is_stored(admission: Admission) -> None:
    payload = at(NOON_NS)
    short = admission.admit(payload, b"block", NOON_NS)
    long = admission.admit(payload, payload + b"more", NOON_NS)
    assert isinstance(short, Admitted)
    assert isinstance(long, Admitted)
    assert (short.payload, short.compressed, short.raw_size) == (b"block", True, len(payload))
    assert (long.payload, long.compressed, long.raw_size) == (payload, False, len(payload))


def test_days_are_of_the_time_zone() -> None:
    admission = Admission(ZoneInfo("Europe/Madrid"))
    late_evening_ns = NOON_NS + 10 * 3600 * NS_PER_SECOND + 1  # 22:00 UTC is midnight in Madrid
    assert admitted(admission, at(late_evening_ns), late_evening_ns).day == date(2017, 7, 5)
    assert admitted(admission, at(late_evening_ns - 2), late_evening_ns).day == date(2017, 7, 4)


def test_the_event_clock_trusts_own_times_of_any_age() -> None:
    admission = Admission(UTC, event_clock=True)
    own_ns = 951_782_400 * NS_PER_SECOND  # 2000-02-29
    assert admitted(admission, at(own_ns)).day == date(2000, 2, 29)


def test_the_event_clock_gives_the_watermark_to_events_without_a_time() -> None:
    admission = Admission(UTC, event_clock=True)
    assert admitted(admission, message("first")).time_ns == NOON_NS
    admission = Admission(UTC, event_clock=True, watermark_ns=NOON_NS - 5)
    assert admitted(admission, message("second")).time_ns == NOON_NS - 5
    admitted(admission, at(NOON_NS - 3, "third"))
    admitted(admission, at(NOON_NS - 4, "older"))
    assert admitted(admission, at(77, "boot clock")).time_ns == NOON_NS - 3


def test_the_wall_clock_keeps_no_watermark(admission: Admission) -> None:
    admitted(admission, at(NOON_NS))
    assert admission.watermark_ns is None


def test_facts_count_every_answer_once(admission: Admission) -> None:
    admitted(admission, at(NOON_NS))
    admitted(admission, at(NOON_NS - 8 * NS_PER_DAY))
    admitted(admission, at(1))
    refused(admission, b"")
    facts = admission.facts()
    assert (facts.own_time, facts.arrival_time, facts.too_old) == (1, 2, 1)
    assert (facts.boot_clock, facts.schema, facts.future) == (1, 1, 0)


def test_an_arrival_that_no_int64_holds_is_a_fault_of_the_caller(admission: Admission) -> None:
    with pytest.raises(ValueError, match="arrival_ns"):
        admission.admit(message(), None, MAX_NS + 1)
