"""Every registry, scheme, clock and byte order together, by configuration alone, on real sockets.

For each registry one service listens to eight detectors at once, one for each scheme, clock and byte
order; then the day closes, and the rows must show the right addresses and the right times.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from consumer.folding.requests import Requests
from consumer.registry.base import KeyEntry
from consumer.registry.entries import ServiceEntry
from consumer.registry.etcd import EtcdRegistry
from consumer.registry.local_etcd import LocalEtcd
from consumer.registry.options import EtcdOptions
from consumer.wire.keys import DETECTOR_CONTEXT, Key, key_from_hex, key_from_seed
from index.catalogue import Catalogue
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.integration.http_registry_server import HttpRegistryServer
from tests.running_service import DAY, NOON, NOON_NS, BentClock, Detector, Running, S

SEED = bytes(range(32))  # a test key
EACH = 6
SCHEMES = ("chacha20poly1305-v1", "secretbox-v0")
CLOCKS = ("epoch", "boot")
ORDERS = ("network", "reversed")
INSIDE, OUTSIDE = "192.168.56.10", "203.0.113.9"

BASE = """\
[data]
dir = "data"
min_free_mb = 16
[api]
enabled = false
[registry]
kind = "{kind}"
"""


@dataclass(frozen=True)
class Kind:
    """One detector of the field: how it seals, what clock it has, how it writes addresses."""

    scheme: str
    clock: str
    order: str

    @property
    def name(self) -> str:
        return f"{self.scheme.split('-')[0]}-{self.clock}-{self.order}"

    @property
    def profile(self) -> str:
        return (
            f'[[detector.profiles]]\nname = "{self.name}"\nscheme = "{self.scheme}"\n'
            f'clock = "{self.clock}"\nip_byte_order = "{self.order}"\n'
        )

    def events(self) -> Iterator[NetworkSecurityEvent]:
        for number in range(EACH):
            event = NetworkSecurityEvent(event_id=f"{self.name}-{number}")
            event.originating_node_id = self.name
            own = NOON_NS - 3600 * S if self.clock == "epoch" else 90_000 * S
            event.event_timestamp.FromNanoseconds(own + number * S)
            network = event.network_features
            network.source_ip, network.destination_ip = (
                self._written(INSIDE),
                self._written(OUTSIDE),
            )
            network.source_port, network.destination_port = 50_000 + number, 443
            network.protocol_number = 6
            network.flow_duration_microseconds = 1_000_000
            network.total_forward_packets, network.total_backward_packets = 5, 4
            network.total_forward_bytes, network.total_backward_bytes = 900, 4000
            yield event

    def _written(self, address: str) -> str:
        parts = address.split(".")
        return ".".join(parts if self.order == "network" else reversed(parts))


KINDS = [Kind(*one) for one in itertools.product(SCHEMES, CLOCKS, ORDERS)]


def keys(secretbox_hex: str) -> dict[str, Key]:
    return {
        "chacha20poly1305-v1": key_from_seed("v1", SEED),
        "secretbox-v0": key_from_hex("v0", secretbox_hex),
    }


def endpoints(detectors: dict[str, Detector]) -> str:
    return "".join(
        f'[[detector.endpoints]]\nname = "{name}"\naddress = "{detector.address}"\n'
        for name, detector in detectors.items()
    )


def key_setting(scheme: str, digits: str) -> str:
    return f'[[detector.keys]]\nid = "{scheme}"\nscheme = "{scheme}"\nhex = "{digits}"\n'


@contextmanager
def by_settings() -> Iterator[tuple[dict[str, Detector], str]]:
    """No registry: endpoints and keys stand in the settings."""
    made = {kind.name: Detector(keys("AB" * 32)[kind.scheme]) for kind in KINDS}
    text = BASE.format(kind="static") + endpoints(made)
    text += key_setting(SCHEMES[0], SEED.hex()) + key_setting(SCHEMES[1], "AB" * 32)
    yield made, text


@contextmanager
def by_etcd(folder: Path) -> Iterator[tuple[dict[str, Detector], str]]:
    """Detectors register in a real etcd and keep their keys there."""
    with ExitStack() as stack:
        etcd = stack.enter_context(LocalEtcd(folder / "etcd"))
        made = {kind.name: Detector(keys("AB" * 32)[kind.scheme]) for kind in KINDS}
        for name, detector in made.items():
            entry = ServiceEntry(
                "ml-detector", name, "1", "127.0.0.1", 1, NOON_NS, endpoints=(detector.address,)
            )
            registry = EtcdRegistry(EtcdOptions((etcd.endpoint,)), entry, detectors=None)
            registry.start()
            stack.callback(registry.stop)
        for scheme, kind, digits in (
            (SCHEMES[0], "seed", SEED.hex()),
            (SCHEMES[1], "key", "ab" * 32),
        ):
            registry.put_key(
                KeyEntry(scheme, "ml-detector", scheme, digits, kind, DETECTOR_CONTEXT)  # type: ignore[arg-type]  # both are literals
            )
        yield made, BASE.format(kind="etcd") + f'[registry.etcd]\nendpoints = ["{etcd.endpoint}"]\n'


@contextmanager
def by_http() -> Iterator[tuple[dict[str, Detector], str]]:
    """The older registry hands out the secretbox key; seeds and endpoints are in the settings."""
    with HttpRegistryServer() as server:
        made = {kind.name: Detector(keys(server.key)[kind.scheme]) for kind in KINDS}
        text = BASE.format(kind="http") + f'[registry.http]\nurls = ["{server.url}"]\n'
        yield made, text + endpoints(made) + key_setting(SCHEMES[0], SEED.hex())


@pytest.mark.parametrize("registry", ["static", "etcd", "http"])
def test_a_service_joins_by_configuration_alone(registry: str, tmp_path: Path) -> None:
    sites = {"static": by_settings, "etcd": lambda: by_etcd(tmp_path), "http": by_http}
    with sites[registry]() as (detectors, text), ExitStack() as stack:
        for detector in detectors.values():
            stack.callback(detector.stop)
        path = tmp_path / "dayfold.toml"
        path.write_text(text + "".join(kind.profile for kind in KINDS))
        service = Running(path, BentClock(NOON))
        stack.callback(service.stop)
        for kind in KINDS:
            detectors[kind.name].send(*kind.events())
        wanted = EACH * len(KINDS)
        service.wait_for("every event", lambda p: p["journal"]["durable"] == wanted)
        Requests(service.settings.data.dir).ask_close(DAY)
        picture = service.wait_for(
            "the day", lambda p: [day["state"] for day in p["days"]] == ["committed"]
        )
        found = {link["detector"]: link["found"] for link in picture["detectors"]}
        for kind in KINDS:
            assert found[kind.name]["schemes"][kind.scheme] == EACH
            assert found[kind.name]["clocks"][kind.clock] == EACH
        with Catalogue.open(service.settings.data.dir / "catalogue.sqlite", read_only=True) as c:
            rows = [row for row in c.facts_of("semantic", DAY) if row.kind == "description"]
    assert sum(row.weight for row in rows) == wanted
    assert {ip for row in rows for ip in row.detail["source_ips"]} == {INSIDE}
    assert {ip for row in rows for ip in row.detail["destination_ips"]} == {OUTSIDE}
    assert all("outbound" in row.label.lower() for row in rows)
