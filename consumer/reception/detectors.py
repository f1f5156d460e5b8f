"""From registry and settings to endpoints and keys: who to listen to, and how to open it."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from consumer.errors import ConfigurationError, DayfoldError
from consumer.reception.endpoints import Endpoint, connectable
from consumer.reception.subscriber import Subscriber
from consumer.registry.base import DetectorEntry, KeyEntry, Registry
from consumer.settings import DetectorSettings, KeySettings
from consumer.wire.keys import Key, KeyRing, derive_key, key_from_hex, key_from_seed

log = structlog.get_logger("detectors")


def keys_from_settings(settings: Iterable[KeySettings]) -> list[Key]:
    """The keys that the settings give.

    Raises:
        ConfigurationError: a key file cannot be read or is not 32 bytes long.
    """
    return [_key_from_setting(entry) for entry in settings]


def _key_from_setting(entry: KeySettings) -> Key:
    if entry.file is not None:
        try:
            material = entry.file.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"detector.keys: {entry.id}: file {entry.file}: {error.strerror}"
            ) from error
        if len(material) != 32:
            raise ConfigurationError(
                f"detector.keys: {entry.id}: file {entry.file} has {len(material)} bytes; "
                "a seed has exactly 32"
            )
    else:
        assert entry.hex is not None  # noqa: S101 - the settings check it
        material = bytes.fromhex(entry.hex.get_secret_value())
    if entry.scheme == "secretbox-v0":
        return key_from_hex(entry.id, material.hex())
    return key_from_seed(entry.id, material, entry.context)


def keys_from_registry(entries: Iterable[KeyEntry]) -> list[Key]:
    """The keys that the registry lists; one that cannot be used is logged and left out."""
    keys: list[Key] = []
    for entry in entries:
        try:
            secret = bytes.fromhex(entry.material)
            if entry.kind == "seed":
                secret = derive_key(secret, entry.context)
            keys.append(
                Key(entry.key_id, entry.scheme, secret, entry.not_before_ns, entry.not_after_ns)
            )
        except (ValueError, ConfigurationError):
            # The error's own text could quote the key.
            log.warning("key on the registry cannot be used", key_id=entry.key_id)
    return keys


def endpoints_from_registry(entries: Iterable[DetectorEntry]) -> list[Endpoint]:
    """Where the registry's detectors publish; a wildcard bind becomes the detector's own host.

    One address per detector, the first that can be reached: two addresses of one PUB socket would
    deliver everything twice.
    """
    endpoints: list[Endpoint] = []
    for entry in entries:
        host = str(entry.facts.get("host", ""))
        curve = entry.facts.get("curve_server_key")
        for address in entry.endpoints:
            try:
                reachable = connectable(address, host)
            except DayfoldError as error:
                log.warning("detector cannot be reached", detector=entry.instance, error=str(error))
                continue
            endpoints.append(
                Endpoint(entry.instance, reachable, curve if isinstance(curve, str) else None)
            )
            break
    return endpoints


class Discovery:
    """Carries what registry and settings say to the subscriber and the key ring.

    `refresh` is called whenever the registry changes; it is cheap and safe from any thread.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        registry: Registry,
        subscriber: Subscriber,
        ring: KeyRing,
    ) -> None:
        self._registry = registry
        self._subscriber = subscriber
        self._ring = ring
        self.take_settings(settings)

    def take_settings(self, settings: DetectorSettings) -> None:
        """Use these endpoints and keys from the next `refresh` on.

        Raises:
            ConfigurationError: a key file cannot be used; nothing changes then.
        """
        keys = keys_from_settings(settings.keys)
        self._fixed_keys = keys
        self._fixed_endpoints = [
            Endpoint(entry.name, entry.address, entry.curve_server_key)
            for entry in settings.endpoints
        ]

    def refresh(self) -> None:
        """Hand over the endpoints and keys that are known now."""
        self._ring.replace(self._fixed_keys + keys_from_registry(self._registry.keys()))
        known = {endpoint.address for endpoint in self._fixed_endpoints}
        found = endpoints_from_registry(self._registry.detectors())
        self._subscriber.set_endpoints(
            self._fixed_endpoints + [entry for entry in found if entry.address not in known]
        )
