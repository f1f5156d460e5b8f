"""Who is on the second network: addresses, links, and what is told from an address.

The addresses are those that RFC 5737 keeps for documentation. No route leads out of the namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.labels import BENIGN


@dataclass(frozen=True, slots=True)
class Host:
    """One host in a network namespace of its own, and the link from it to the gateway.

    `delay_s` and `jitter_s` are one way, in seconds; `rate` is in bytes per second; `loss` is the
    share of packets that the link drops. `label` is what every flow from or to this host is.
    """

    name: str
    address: str
    delay_s: float = 0.0002
    jitter_s: float = 0.0001
    rate: float = 12_500_000.0
    loss: float = 0.0
    label: str = BENIGN


def _outside(name: str, number: int, delay_s: float, label: str = BENIGN) -> Host:
    return Host(name, f"203.0.113.{number}", delay_s, delay_s / 12, 2_500_000.0, 0.001, label)


WEB, FILES, NAMES, STORE = "198.51.100.10", "198.51.100.11", "198.51.100.2", "198.51.100.13"
SITES = ("203.0.113.10", "203.0.113.11", "203.0.113.12")
ABSENT, DISCOVERY = "198.51.100.250", "239.255.255.250"

SERVERS = (
    Host("web", WEB),
    Host("files", FILES),
    Host("names", NAMES),
    Host("store", STORE),
    _outside("near", 10, 0.006),
    _outside("far", 11, 0.021),
    _outside("abroad", 12, 0.055),
)
CLIENTS = (
    *(Host(f"desk{n}", f"198.51.100.{100 + n}") for n in range(1, 5)),
    *(
        Host(f"radio{n}", f"198.51.100.{110 + n}", 0.002, 0.002, 3_000_000.0, 0.002)
        for n in range(1, 4)
    ),
    _outside("guest1", 50, 0.012),
    _outside("guest2", 51, 0.034),
)
# One address for each kind of attack, so that the address alone labels its flows.
ATTACKERS = (
    _outside("scanner", 60, 0.018, "port scan"),
    _outside("prober", 61, 0.027, "UDP scan"),
    _outside("guesser", 62, 0.015, "SSH guessing"),
    _outside("clerk", 63, 0.031, "FTP guessing"),
    _outside("trickle", 64, 0.022, "slow headers"),
    _outside("mud", 65, 0.025, "slow body"),
    _outside("straw", 66, 0.016, "slow read"),
    _outside("flood", 67, 0.008, "HTTP flood"),
    _outside("needle", 68, 0.040, "web attack"),
    _outside("master", 69, 0.047, "beacon"),
    _outside("fence", 70, 0.029, "exfiltration"),
    Host("inmate", "198.51.100.122", label="port scan, from inside"),
)
ZOMBIE = Host("camera", "198.51.100.120")
HOSTS = (*SERVERS, *CLIENTS, *ATTACKERS, ZOMBIE)

_LABELS = {host.address: host.label for host in HOSTS if host.label != BENIGN}


def label_of(source: str, destination: str) -> str:
    """The label of a flow between two addresses."""
    return _LABELS.get(source) or _LABELS.get(destination) or BENIGN


def address_of(name: str) -> str:
    """The address of a host, by its name."""
    return next(host.address for host in HOSTS if host.name == name)
