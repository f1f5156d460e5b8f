"""Events of a wanted size, made fast: real flows as templates, a fresh id patched into each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import lz4.block

from consumer.demo.deployment import SAMPLE
from consumer.replay.flows import FlowRecording
from consumer.wire.keys import Scheme
from consumer.wire.schemes import SIZE_BYTES
from proto.network_security_pb2 import NetworkSecurityEvent

# Digits that LZ4 finds nowhere else, so that it leaves them as they are.
MARK = "bench-event-493817205618"
DIGITS = 12


@dataclass(frozen=True, slots=True)
class Template:
    """Bytes around the digits of an event's id: a serialised event, or what is sealed of it."""

    head: bytes
    tail: bytes

    def with_number(self, number: int) -> bytes:
        """The event with the given number in its id."""
        return b"%b%0*d%b" % (self.head, DIGITS, number, self.tail)

    def plaintext(self, scheme: Scheme) -> Template:
        """The same event as it goes into the envelope: its size and its LZ4 block.

        A block holds the digits of the id as they are, so they can be changed in there.

        Raises:
            ValueError: the block of this event does not.
        """
        payload = self.head + MARK[-DIGITS:].encode() + self.tail
        block: bytes = lz4.block.compress(payload, store_size=False)
        head, _, tail = block.partition(MARK[-DIGITS:].encode())
        size = len(payload).to_bytes(SIZE_BYTES, "big" if scheme == "secretbox-v0" else "little")
        made = Template(size + head, tail)
        other = lz4.block.decompress(made.with_number(1)[SIZE_BYTES:], len(payload))
        if other != self.with_number(1):
            raise ValueError("the id of this event cannot be changed within its LZ4 block")
        return made


def templates(count: int, size: int, *, day: date | None = None) -> list[Template]:
    """`count` real flows of the sample, filled up to about `size` bytes each.

    What fills them hardly compresses: the least favourable case for the journal and its disk.

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
            digits = "".join(f"{(number * 2654435761 + i * 40503) % 997:03d};" for i in range(999))
            event.custom_metadata["sensor_notes"] = (digits * 2)[:missing]
        head, _, tail = event.SerializeToString().partition(MARK.encode())
        made.append(Template(head + MARK.encode()[:-DIGITS], tail))
    return made


def _for_ever(flows: FlowRecording) -> Iterator[tuple[int, NetworkSecurityEvent]]:
    while True:
        yield from flows
