"""One plain-English description of an event, as an analyst would write it.

It says what the event is part of, which service, from whom to whom, how much, how long, how it
ended and when in the day; the last sentence is what the detector thought of it. Addresses are not
in it; they are in the facts of the row.
"""

from __future__ import annotations

from functools import lru_cache

from embed.behaviour import (
    BEACON,
    CROWD,
    DOWNLOAD,
    FLOOD,
    GUESSING,
    LEAK,
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
from embed.services import BROWSED, NO_PORT, UNNAMED
from embed.wording import DURATION, PACE, PACKETS, SCORE, TIME_OF_DAY, VOLUME

TCP, UDP = 6, 17
PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    TCP: "TCP",
    UDP: "UDP",
    47: "GRE",
    50: "ESP",
    58: "ICMPv6",
    132: "SCTP",
}

_EXTENT = ("", "several", "dozens of", "hundreds of")
_OUTCOMES = {
    UNANSWERED: "nobody answers (unanswered, no reply)",
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
    REQUESTS: "many requests in one session, like an automated attack on a web form (brute force of a login, cross-site scripting)",
    UPLOAD: "large upload out of the network, like data exfiltration",
    DOWNLOAD: "large download",
    LEAK: "large download from an unusual port, like a data leak",
    BEACON: "quiet connection with long pauses, like a beacon to a command and control server (backdoor, reverse shell)",
}
_HOSTS = {
    "internal": "an internal host",
    "external": "an external host",
    "broadcast": "everyone on the network (broadcast traffic)",
    "multicast": "a group of hosts (multicast traffic to a group address)",
    "loopback": "the host itself",
    "unknown": "an unknown host",
}
_VERDICT = ". The detector says "


@lru_cache(maxsize=65536)
def describe(b: Behaviour) -> str:
    """The description of a behaviour; equal behaviours give equal texts.

    It ends with a full stop, which lets the caller check that the last of its tokens was reached.
    """
    if b.protocol < 0:
        parts = ["event without network details"]
    else:
        parts = [", ".join(part for part in (_pattern(b), _who(b)) if part), _what(b)]
    parts += [TIME_OF_DAY[b.hour], _verdict(b)]
    return " ".join(part[0].upper() + part[1:] + "." for part in parts if part)


def without_verdict(text: str) -> str:
    """A description less its last sentence: what happened, whatever the detector thought of it."""
    what, verdict, _ = text.rpartition(_VERDICT)
    return what + "." if verdict else text


def verdict_of(text: str) -> str:
    """What the detector says in a description, less the words for that; empty for nothing."""
    _, verdict, said = text.rpartition(_VERDICT)
    return said.rstrip(".") if verdict else ""


def _pattern(b: Behaviour) -> str:
    return _PATTERNS.get(b.pattern, "").format(extent=_EXTENT[b.extent])


def _who(b: Behaviour) -> str:
    protocol = PROTOCOLS.get(b.protocol, f"IP protocol {b.protocol}")
    if b.service == NO_PORT.text:
        what = f"{protocol} probe" if b.pattern == SCAN else f"{protocol} traffic"
        if b.protocol not in (TCP, UDP):
            what += " without ports (neither TCP nor UDP)"
    elif b.service in UNNAMED:
        what = f"{protocol} to {b.service}"
    elif b.reply:
        what = f"reply of {b.service} over {protocol}"
    else:
        what = f"{b.service} over {protocol}"
    ends = (b.source, b.destination)
    if ends == ("internal", "internal"):
        return f"{what} between internal hosts"
    if ends == ("external", "external"):
        return f"{what} between external hosts"
    if ends == ("internal", "external"):
        browsing = "web browsing, " if b.service in BROWSED else ""
        return f"{browsing}outbound {what} to an external host on the internet"
    if ends == ("external", "internal"):
        return f"inbound {what} from an external host on the internet"
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
        return "carries no data (empty)"
    return f"sends {VOLUME.word(b.sent)} and receives {VOLUME.word(b.received)} data"


def _verdict(b: Behaviour) -> str:
    """What the detector says; empty when it says nothing."""
    score = SCORE.word(b.score)
    parts = [b.verdict, f"{score} score" if score else "", *b.signs]
    found = ", ".join(part for part in parts if part)
    return f"the detector says {found}" if found else ""
