"""The questions of `questions.toml`, and which flows answer each.

A question names a predicate over flows: their label, destination port, ends, hour, volume. A
description answers it when more than half of its events satisfy the predicate. So what is right
comes from the data and never from the words of a description.
"""

from __future__ import annotations

import dataclasses
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from embed.addresses import host_kind

Language = Literal["en", "es"]
Part = Literal["tune", "held"]
Kind = Literal[
    "attack", "paraphrase", "service", "benign", "volume", "outcome", "time", "direction"
]
Flags = NDArray[np.bool_]

_MICROSECONDS = 1_000_000
_AS_WRITTEN = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, config=_AS_WRITTEN)
class Predicate:
    """Conditions on a flow, all of which must hold; None does not ask.

    Attributes:
        label: one of these labels of the data set.
        port: one of these destination ports.
        protocol: one of these IP protocol numbers.
        source: kind of the source host, as `embed.addresses` tells it from the address.
        destination: kind of the destination host.
        hours: the flow began at or after the first and before the second hour of its UTC day.
        received_over: more payload bytes than this from the destination; `sent_over`,
            `received_under` and `sent_under` likewise, the latter two below.
        packets_over: more packets than this in both directions.
        seconds_over: lasted longer than this.
        answered: the destination sent a packet, or (false) it did not.
        reset: a connection with payload saw an RST, or (false) not.
    """

    label: tuple[str, ...] | None = None
    port: tuple[int, ...] | None = None
    protocol: tuple[int, ...] | None = None
    source: str | None = None
    destination: str | None = None
    hours: tuple[int, int] | None = None
    received_over: int | None = None
    received_under: int | None = None
    sent_over: int | None = None
    sent_under: int | None = None
    packets_over: int | None = None
    seconds_over: int | None = None
    answered: bool | None = None
    reset: bool | None = None

    def holds(self, flows: Flows) -> Flags:
        """Whether it holds for each of n flows, bool (n,)."""
        found = np.ones(len(flows.label), dtype=np.bool_)
        for name in ("label", "port", "protocol"):
            if (values := getattr(self, name)) is not None:
                found &= np.isin(getattr(flows, name), values)
        for name in ("source", "destination", "answered", "reset"):
            if (value := getattr(self, name)) is not None:
                found &= getattr(flows, name) == value
        if self.hours is not None:
            found &= (flows.hour >= self.hours[0]) & (flows.hour < self.hours[1])
        for name in ("received", "sent", "packets", "seconds"):
            if (edge := getattr(self, f"{name}_over")) is not None:
                found &= getattr(flows, name) > edge
            if (edge := getattr(self, f"{name}_under", None)) is not None:
                found &= getattr(flows, name) < edge
        return found


@dataclass(frozen=True, slots=True, config=_AS_WRITTEN)
class Question:
    """A question and what is right about it.

    Attributes:
        text: as an analyst types it.
        language: of the text.
        kind: what it asks about.
        part: `tune` questions may be looked at while descriptions and ranking are worked on,
            `held` ones are only measured.
        flows: which flows answer it.
    """

    text: str
    language: Language
    kind: Kind
    part: Part
    flows: Predicate


@dataclasses.dataclass(frozen=True, slots=True)
class Flows:
    """Columns of n labelled flows; see `Predicate` for their meaning. Times are UTC."""

    label: NDArray[np.str_]
    port: NDArray[np.int64]
    protocol: NDArray[np.int64]
    source: NDArray[np.str_]
    destination: NDArray[np.str_]
    hour: NDArray[np.int64]
    received: NDArray[np.int64]
    sent: NDArray[np.int64]
    packets: NDArray[np.int64]
    seconds: NDArray[np.float64]
    answered: Flags
    reset: Flags


def load_questions() -> list[Question]:
    """The shipped questions, in the order of the file.

    Raises:
        ValueError: an entry is not a question; says which and why.
    """
    text = files("consumer.evaluation").joinpath("questions.toml").read_text(encoding="utf-8")
    return TypeAdapter(list[Question]).validate_python(tomllib.loads(text)["question"])


def read_flows(path: Path) -> Flows:
    """The columns that predicates ask about, in the order of a Parquet file of labelled flows."""
    table = pq.read_table(path)

    def numbers(name: str) -> NDArray[np.int64]:
        values: NDArray[np.int64] = table[name].to_numpy().astype(np.int64)
        return values

    def kinds(name: str) -> NDArray[np.str_]:
        return np.array([host_kind(address) for address in table[name].to_pylist()])

    sent, received = numbers("total_forward_bytes"), numbers("total_backward_bytes")
    back = numbers("total_backward_packets")
    began = table["timestamp"].to_numpy().astype("datetime64[h]").astype(np.int64)
    return Flows(
        label=np.array(table["label"].to_pylist()),
        port=numbers("destination_port"),
        protocol=numbers("protocol_number"),
        source=kinds("source_ip"),
        destination=kinds("destination_ip"),
        hour=began % 24,
        received=received,
        sent=sent,
        packets=numbers("total_forward_packets") + back,
        seconds=numbers("flow_duration_microseconds") / _MICROSECONDS,
        answered=back > 0,
        reset=(numbers("rst_flag_count") > 0) & (sent + received > 0),
    )
