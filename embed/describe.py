"""One plain-English description of an event, as an analyst would write it.

The sentence says what the event is part of, which service, from whom to whom, how much, how long,
how it ended, what the detector thought of it, and when in the day. Addresses are not in it; they
are in the facts of the row.
"""

from __future__ import annotations

from functools import lru_cache

from embed.behaviour import (
    BEACON,
    CROWD,
    FLOOD,
    GUESSING,
    ODD,
    OPEN,
    REFUSED,
    REPEATED,
    REQUESTS,
    RESET,
    SCAN,
    SLOW,
    SWEEP,
    UNANSWERED,
    UPLOAD,
    Behaviour,
)
from embed.services import NO_PORT, UNNAMED
from embed.wording import DURATION, PACE, PACKETS, SCORE, TIME_OF_DAY, VOLUME

PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    6: "TCP",
    17: "UDP",
    47: "GRE",
    50: "ESP",
    58: "ICMPv6",
    132: "SCTP",
}

_EXTENT = ("", "several", "dozens of", "hundreds of")
_OUTCOMES = {
    UNANSWERED: "unanswered",
    REFUSED: "refused with a reset",
    RESET: "cut off by a reset",
    OPEN: "never closed",
    ODD: "odd TCP flags",
}
_PATTERNS = {
    SCAN: "port scan: one host probes {extent} different ports of another",
    SWEEP: "network sweep: one host tries the same service on {extent} hosts",
    GUESSING: "{extent} repeated logins from one host, like password guessing (brute force)",
    FLOOD: "flood of {extent} web requests from one host, like denial of service (DoS)",
    SLOW: "{extent} slow web connections held open, like slow denial of service (Slowloris)",
    CROWD: "{extent} different hosts at once to one service, like distributed denial of service",
    REPEATED: "one of {extent} alike from the same host",
    REQUESTS: "many requests in one session, like brute force of a login form (web attack)",
    UPLOAD: "upload out of the network, like data exfiltration",
    BEACON: "quiet connection with long pauses, like a beacon to a control server (backdoor)",
}
_HOSTS = {
    "internal": "an internal host",
    "external": "an external host",
    "broadcast": "everyone on the network (broadcast)",
    "multicast": "a multicast group",
    "loopback": "the host itself",
    "unknown": "an unknown host",
}


@lru_cache(maxsize=65536)
def describe(behaviour: Behaviour) -> str:
    """The description of a behaviour; equal behaviours give equal texts.

    It ends with a full stop, which lets the caller check that the last of its tokens was reached.
    """
    if behaviour.protocol < 0:
        parts = ["Event without network details"]
    else:
        parts = [part for part in (_pattern(behaviour), _who(behaviour), _what(behaviour)) if part]
    parts.append(_verdict(behaviour))
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _pattern(b: Behaviour) -> str:
    return _PATTERNS.get(b.pattern, "").format(extent=_EXTENT[b.extent])


def _who(b: Behaviour) -> str:
    protocol = PROTOCOLS.get(b.protocol, f"IP protocol {b.protocol}")
    if b.service == NO_PORT.text:
        what = f"{protocol} probe" if b.pattern == SCAN else f"{protocol} traffic"
    elif b.service in UNNAMED:
        what = f"{protocol} to {b.service}"
    elif b.reply:
        what = f"reply of {b.service} over {protocol}"
    else:
        what = f"{b.service} over {protocol}"
    ends = (b.source, b.destination)
    if ends == ("internal", "internal"):
        return f"{what} between internal hosts"
    if ends == ("internal", "external"):
        return f"outbound {what} to an external host"
    if ends == ("external", "internal"):
        return f"inbound {what} from an external host"
    return f"{what} from {_HOSTS[b.source]} to {_HOSTS[b.destination]}"


def _what(b: Behaviour) -> str:
    parts = [_volume(b), PACKETS.word(b.packets), DURATION.word(b.duration), PACE.word(b.pace)]
    if b.pauses:
        parts.append("with long pauses")
    parts.append(_OUTCOMES.get(b.outcome, ""))
    return ", ".join(part for part in parts if part)


def _volume(b: Behaviour) -> str:
    if b.sent < 0 or b.received < 0:
        return ""
    if b.sent == b.received == 0:
        return "no data"
    return f"sends {VOLUME.word(b.sent)} and receives {VOLUME.word(b.received)} data"


def _verdict(b: Behaviour) -> str:
    judged = b.verdict or "not judged"
    score = SCORE.word(b.score)
    parts = [f"{judged}, {score} score" if score else judged, *b.signs]
    return f"{', '.join(part for part in parts if part)}, {TIME_OF_DAY[b.hour]}"
