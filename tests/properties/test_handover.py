"""The handover against any order of putting and taking."""

from hypothesis import given
from hypothesis import strategies as st

from consumer.reception.handover import MESSAGE_OVERHEAD, Handover
from consumer.reception.sources import Arrival, Run

DETECTORS = "abc"

puts = st.tuples(st.sampled_from(DETECTORS), st.lists(st.integers(0, 400), max_size=12))
steps = st.lists(st.one_of(puts, st.integers(1, 15)), max_size=60)


@given(limit=st.integers(0, 3_000), steps=steps)
def test_every_message_is_taken_in_order_or_counted_as_dropped(
    limit: int, steps: list[tuple[str, list[int]] | int]
) -> None:
    handover = Handover(limit)
    lanes = {detector: handover.lane() for detector in DETECTORS}
    put = dict.fromkeys(DETECTORS, 0)
    taken: list[Arrival] = []
    for step in steps:
        if isinstance(step, int):
            some = handover.take(step, 0)
            assert len(some) <= step
            taken += some
        else:
            detector, sizes = step
            first = put[detector]
            put[detector] += len(sizes)
            handover.put(
                lanes[detector],
                Run(detector, list(range(first, put[detector])), list(map(bytes, sizes))),
            )
        assert handover.held_bytes <= limit
        queued = [one for lane in lanes.values() for run in lane.queue for one in run.rows()]
        assert handover.held_bytes == sum(len(a.message) + MESSAGE_OVERHEAD for a in queued)
    while some := handover.take(15, 0):
        taken += some
    for detector, lane in lanes.items():
        order = [arrival.arrival_ns for arrival in taken if arrival.detector == detector]
        assert order == sorted(set(order))
        assert len(order) + lane.dropped == put[detector]
