"""Events of a wanted size, made fast: real flows as templates, a fresh id patched into each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from consumer.demo.deployment import SAMPLE
from consumer.replay.flows import FlowRecording
from proto.network_security_pb2 import NetworkSecurityEvent

MARK = "bench-event-000000000000"
DIGITS = 12


@dataclass(frozen=True, slots=True)
class Template:
    """A serialised event around the digits of its id."""

    head: bytes
    tail: bytes

    def with_number(self, number: int) -> bytes:
        """The event with the given number in its id."""
        return b"%b%0*d%b" % (self.head, DIGITS, number, self.tail)


def templates(count: int, size: int, *, day: date | None = None) -> list[Template]:
    """`count` real flows of the sample, filled up to about `size` bytes each.

    What fills them is text that compresses about as the rest of an event does.

    Args:
        count: how many.
        size: bytes of the serialised event.
        day: only flows of this day; None for all.
    """
    made: list[Template] = []
    flows = FlowRecording(SAMPLE, node="bench", days=None if day is None else frozenset({day}))
    for number, (_, event) in enumerate(_for_ever(flows)):
        if number == count:
            return made
        event.event_id = MARK
        event.correlation_id = ""
        missing = size - event.ByteSize() - 32
        if missing > 0:
            # Digits that differ from event to event: LZ4 finds half of it, as in real events.
            digits = "".join(f"{(number * 2654435761 + i * 40503) % 997:03d};" for i in range(999))
            event.custom_metadata["sensor_notes"] = (digits * 2)[:missing]
        head, _, tail = event.SerializeToString().partition(MARK.encode())
        made.append(Template(head + MARK.encode()[:-DIGITS], tail))
    return made


def _for_ever(flows: FlowRecording) -> Iterator[tuple[int, NetworkSecurityEvent]]:
    while True:
        yield from flows
