"""How detectors differ, and what the settings say of each.

`[detector.profile]` holds for every detector; a `[[detector.profiles]]` entry changes single keys
of it for the detector of that name. `docs/detectors.md` says what each key does and where.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from consumer.wire.keys import Scheme
from embed.sensors import MISSING, Sensor, Sensors

SchemeChoice = Literal["auto", "chacha20poly1305-v1", "secretbox-v0"]
ClockChoice = Literal["auto", "epoch", "boot"]
ByteOrder = Literal["network", "reversed"]
FilterChoice = Literal["all", "logged"]
IdentityChoice = Literal["node-id-time", "node-id"]


class ProfileSettings(BaseModel):
    """What holds for every detector that has no entry of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheme: SchemeChoice = Field("auto", description="Wire scheme; auto tries the keys of both.")
    clock: ClockChoice = Field(
        "auto",
        description="auto and epoch: an event's own time is used where it is plausible. boot: "
        "never; the time of arrival is.",
    )
    ip_byte_order: ByteOrder = Field(
        "network",
        description="reversed: IPv4 addresses of packet events have their bytes reversed.",
    )
    missing_value: float = Field(
        MISSING,
        allow_inf_nan=False,
        description="Number that says 'not measured', beside -9999.0, which always does.",
    )
    filter: FilterChoice = Field(
        "all", description="logged: keep only what a detector would log; the rest is counted."
    )
    identity: IdentityChoice = Field(
        "node-id-time",
        description="What identifies an event: node, id and time, or node and id within a day.",
    )


class NamedProfile(BaseModel):
    """What is different about one detector; a key that is not given is that of the profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="Instance name of the detector.")
    nodes: tuple[str, ...] = Field(
        (), description="originating_node_id of its sensors; empty: its own name."
    )
    scheme: SchemeChoice | None = None
    clock: ClockChoice | None = None
    ip_byte_order: ByteOrder | None = None
    missing_value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    filter: FilterChoice | None = None
    identity: IdentityChoice | None = None


def _once(profiles: tuple[NamedProfile, ...]) -> tuple[NamedProfile, ...]:
    for what, names in (
        ("name", [one.name for one in profiles]),
        ("node", [node for one in profiles for node in (one.nodes or (one.name,))]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{what} {twice[0]!r} is in two entries: give each one entry")
    return profiles


NamedProfiles = Annotated[tuple[NamedProfile, ...], AfterValidator(_once)]


@dataclass(frozen=True, slots=True)
class Profiles:
    """Resolves names. Made once; cheap to ask.

    Attributes:
        default: the profile of every detector without an entry.
        named: the entries.
    """

    default: ProfileSettings = field(default_factory=ProfileSettings)
    named: tuple[NamedProfile, ...] = ()

    def of(self, detector: str) -> ProfileSettings:
        """The profile of a detector, by its instance name."""
        for entry in self.named:
            if entry.name == detector:
                return self._merged(entry)
        return self.default

    def scheme_of(self, detector: str) -> Scheme | None:
        """The only scheme that may open a detector's messages; None for any."""
        scheme = self.of(detector).scheme
        return None if scheme == "auto" else scheme

    def sensors(self) -> Sensors:
        """What has to be known when events are read back, where only their node is known."""
        return Sensors(_sensor(self.default), dict(self._by_node(self.named)))

    def _by_node(self, entries: Iterable[NamedProfile]) -> Iterable[tuple[str, Sensor]]:
        for entry in entries:
            sensor = _sensor(self._merged(entry))
            for node in entry.nodes or (entry.name,):
                yield node, sensor

    def _merged(self, entry: NamedProfile) -> ProfileSettings:
        given = entry.model_dump(exclude={"name", "nodes"}, exclude_none=True)
        return self.default.model_copy(update=given)


def _sensor(profile: ProfileSettings) -> Sensor:
    return Sensor(turned=profile.ip_byte_order == "reversed", missing=profile.missing_value)
