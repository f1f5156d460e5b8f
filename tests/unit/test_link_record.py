from consumer.reception.endpoints import Endpoint
from consumer.reception.handover import Handover
from consumer.reception.link import GAP_WINDOWS, LinkRecord


def record(now_ns: int = 0) -> LinkRecord:
    return LinkRecord(Endpoint("a", "tcp://10.0.0.5:5572"), Handover(1_000).lane(), now_ns)


def test_a_new_link_waits_for_its_first_connection() -> None:
    facts = record(now_ns=7).facts()
    assert (facts.connected, facts.since_ns, facts.gaps_total) == (False, 7, 0)


def test_the_first_connection_leaves_no_gap() -> None:
    made = record()
    made.note_connected(50)
    facts = made.facts()
    assert (facts.connected, facts.since_ns, facts.gap_windows) == (True, 50, ())


def test_a_gap_begins_at_the_last_message() -> None:
    made = record()
    made.note_connected(100)
    made.note_burst([b"abc", b"de"], 700)
    made.note_lost(1_000, silence_ns=500)
    assert made.facts().since_ns == 1_000
    made.note_connected(2_000)
    facts = made.facts()
    assert facts.gap_windows == ((700, 2_000),)
    assert (facts.gaps_total, facts.received, facts.received_bytes) == (1, 2, 5)


def test_on_a_quiet_link_a_gap_begins_at_the_last_heartbeat() -> None:
    made = record()
    made.note_connected(100)
    made.note_burst([b"abc"], 200)
    made.note_lost(1_000, silence_ns=300)
    made.note_connected(2_000)
    assert made.facts().gap_windows == ((700, 2_000),)


def test_a_gap_never_begins_before_its_connection() -> None:
    made = record()
    made.note_connected(900)
    made.note_lost(1_000, silence_ns=5_000)
    made.note_connected(2_000)
    assert made.facts().gap_windows == ((900, 2_000),)


def test_a_clock_that_is_set_back_leaves_no_gap_that_ends_before_it_begins() -> None:
    made = record()
    made.note_connected(900)
    made.note_lost(1_000, silence_ns=0)
    made.note_connected(500)
    assert made.facts().gap_windows == ((1_000, 1_000),)


def test_losing_what_was_never_connected_is_no_gap() -> None:
    made = record()
    made.note_lost(1_000, silence_ns=10)
    made.note_connected(2_000)
    assert made.facts().gaps_total == 0


def test_the_last_gap_windows_are_kept_and_all_are_counted() -> None:
    made = record()
    for turn in range(GAP_WINDOWS + 20):
        made.note_connected(10 * turn)
        made.note_lost(10 * turn + 5, silence_ns=0)
    facts = made.facts()
    assert len(facts.gap_windows) == GAP_WINDOWS
    assert facts.gaps_total == GAP_WINDOWS + 19
    assert facts.gap_windows[-1] == (10 * (GAP_WINDOWS + 18) + 5, 10 * (GAP_WINDOWS + 19))
