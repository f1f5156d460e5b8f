"""One desk per detector: what its profile asks for, and what was found in its messages."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from google.protobuf.message import DecodeError

from consumer.wire.admission import Admission
from consumer.wire.keys import Scheme
from consumer.wire.profiles import Profiles, ProfileSettings
from proto.network_security_pb2 import NetworkSecurityEvent

# The rule by which older detectors chose the events that they wrote to their logs.
LOGGED_SCORE = 0.70
LOGGED_DIVERGENCE = 0.30


def is_logged(payload: bytes) -> bool:
    """Whether a detector would have logged this event; true for one that cannot be read.

    Score 0.70 or more, or divergence 0.30 or more, or `requires_rag_analysis`. A score that is not
    a number is below any limit.
    """
    try:
        event = NetworkSecurityEvent.FromString(payload)
    except DecodeError:
        # Admission says what becomes of it.
        return True
    decision = event.decision_metadata
    return (
        event.overall_threat_score >= LOGGED_SCORE
        or decision.score_divergence >= LOGGED_DIVERGENCE
        or decision.requires_rag_analysis
    )


class Desk:
    """Where the messages of one detector are worked on. Written by the intake thread only.

    Attributes:
        profile: what the settings say of this detector.
        admit_all: of its admission, which counts what it found of its clock.
        logged_only: whether events that a detector would not log are dropped.
        schemes: messages opened, by scheme.
        filtered: events dropped because of `logged_only`.
    """

    __slots__ = ("_admission", "admit_all", "filtered", "logged_only", "profile", "schemes")

    def __init__(self, profile: ProfileSettings, admission: Admission) -> None:
        self.profile = profile
        self._admission = admission
        self.admit_all = admission.admit_all
        self.logged_only = profile.filter == "logged"
        self.schemes: Counter[Scheme] = Counter(dict.fromkeys(get_args(Scheme), 0))
        self.filtered = 0

    def found(self) -> dict[str, object]:
        """What the profile says and what was found, for the status."""
        facts = self._admission.facts()
        return {
            "scheme": self.profile.scheme,
            "schemes": dict(self.schemes),
            "clock": self.profile.clock,
            "clocks": {
                "epoch": facts.own_time,
                "boot": facts.boot_clock,
                "too old": facts.too_old,
                "none": facts.no_time,
            },
            "ip_byte_order": self.profile.ip_byte_order,
            "filter": self.profile.filter,
            "filtered": self.filtered,
            "identity": self.profile.identity,
        }


class Desks(dict[str, Desk]):
    """The desks by detector; one that is asked for and not there is set up.

    Args:
        admission: the service's; every desk gets a sibling of it.
        profiles: what the settings say.
    """

    def __init__(self, admission: Admission, profiles: Profiles) -> None:
        super().__init__()
        self._admission = admission
        self._profiles = profiles

    def __missing__(self, detector: str) -> Desk:
        profile = self._profiles.of(detector)
        admission = self._admission.sibling(
            boot_clock=profile.clock == "boot", timed_identity=profile.identity == "node-id-time"
        )
        desk = self[detector] = Desk(profile, admission)
        return desk
