from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.days import MAX_NS, day_bounds_ns
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from proto.network_security_pb2 import NetworkSecurityEvent

pytestmark = pytest.mark.usefixtures("each_way")

MADRID = ZoneInfo("Europe/Madrid")
int64 = st.integers(-(2**63), 2**63 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)
arrivals = st.integers(0, MAX_NS)
seconds = int64 | st.integers(1_499_000_000, 1_500_000_000)


@given(st.booleans(), st.lists(st.binary(max_size=60), max_size=5), arrivals)
def test_any_bytes_get_an_answer(event_clock: bool, payloads: list[bytes], now: int) -> None:
    admission = Admission(MADRID, event_clock=event_clock)
    for payload in payloads:
        admission.admit(payload, None, now)
    facts = admission.facts()
    answers = facts.own_time + facts.arrival_time + facts.schema + facts.future
    assert answers == len(payloads)


@given(st.booleans(), st.text(max_size=9), seconds, int32, arrivals)
def test_an_admitted_event_lies_in_its_day_and_never_after_its_arrival(
    event_clock: bool, event_id: str, own_seconds: int, nanos: int, now: int
) -> None:
    event = NetworkSecurityEvent(event_id=event_id, originating_node_id="node")
    event.event_timestamp.seconds = own_seconds
    event.event_timestamp.nanos = nanos
    payload = event.SerializeToString()
    answer = Admission(MADRID, event_clock=event_clock).admit(payload, None, now)
    if isinstance(answer, Admitted):
        start, end = day_bounds_ns(answer.day, MADRID)
        assert start <= answer.time_ns < end
        assert event_clock or answer.time_ns <= now + 300 * 10**9
        assert answer.own_time or answer.time_ns == now
    else:
        assert own_seconds * 10**9 + nanos > now + (0 if event_clock else 300 * 10**9)
        assert answer.reason == "future"
