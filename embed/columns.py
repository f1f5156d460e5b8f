"""What embedders read of an event beside its numbers, column by column, each event touched once."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embed.distinct import address_value
from proto.network_security_pb2 import NetworkSecurityEvent

_TOP = attrgetter("event_id", "threat_category", "final_classification")
# Reading a field of an absent message gives its default.
_NETWORK = attrgetter(
    "source_ip", "destination_ip", "source_port", "destination_port", "protocol_number"
)


class Columns(NamedTuple):
    """Fields of n events, each a sequence in the order of the events.

    Attributes:
        present: whether an event has network features; without them the next columns hold
            empty texts and zeros.
        event_ids: identifiers.
        categories: threat categories.
        classifications: final classifications.
        sources: source addresses, as text.
        destinations: destination addresses, as text.
        source_ports: source ports.
        ports: destination ports.
        protocols: protocol numbers.
    """

    present: Sequence[bool]
    event_ids: Sequence[str]
    categories: Sequence[str]
    classifications: Sequence[str]
    sources: Sequence[str]
    destinations: Sequence[str]
    source_ports: Sequence[int]
    ports: Sequence[int]
    protocols: Sequence[int]

    def address_values(self, addresses: Sequence[str]) -> NDArray[np.int64]:
        """Addresses as numbers (`embed.distinct.address_value`), int64 (n,); -1 where absent."""
        values = [
            address_value(address) if there else -1
            for there, address in zip(self.present, addresses, strict=True)
        ]
        return np.array(values, dtype=np.int64)


def read_columns(events: Sequence[NetworkSecurityEvent]) -> Columns:
    """The columns of some events. Never raises for what an event holds."""
    present = [event.HasField("network_features") for event in events]
    if not events:
        return Columns(present, (), (), (), (), (), (), (), ())
    # A path with a dot makes the inner message anew for each field.
    networks = [event.network_features for event in events]
    return Columns(
        present,
        *zip(*map(_TOP, events), strict=True),
        *zip(*map(_NETWORK, networks), strict=True),
    )
