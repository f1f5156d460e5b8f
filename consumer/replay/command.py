"""The stand-in as a process: a replay that is also a registered detector."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

import consumer
from consumer.clock import Clock, SystemClock
from consumer.errors import UsageError
from consumer.registry.base import KeyEntry
from consumer.registry.entries import ServiceEntry
from consumer.registry.etcd import EtcdRegistry
from consumer.registry.options import EtcdOptions
from consumer.replay.replay import Replay, ReplayOptions
from consumer.wire.keys import DETECTOR_CONTEXT, Key, Scheme, key_from_hex, key_from_seed

COMPONENT = "ml-detector"


@dataclass(frozen=True, slots=True)
class StandIn:
    """What `dayfold replay` was asked to do; see its help for each."""

    source: Path
    bind: str
    scheme: Scheme
    key_file: Path | None
    seed_file: Path | None
    rate: float | None
    speed: float | None
    days: str | None
    limit: int | None
    node: str
    etcd: tuple[str, ...]
    prefix: str
    wait_for: int
    wait_s: float


class RegisteredDetector:
    """Announces a replay in etcd as a detector: its key first, then its endpoint under a lease."""

    def __init__(self, asked: StandIn, key_entry: KeyEntry, clock: Clock) -> None:
        self._asked = asked
        self._key_entry = key_entry
        self._clock = clock
        self._registry: EtcdRegistry | None = None

    def start(self, endpoint: str) -> None:
        """Register.

        Raises:
            RegistryError: etcd does not take the key.
        """
        self._registry = EtcdRegistry(
            EtcdOptions(endpoints=self._asked.etcd),
            ServiceEntry(
                component=COMPONENT,
                instance=self._asked.node,
                version=consumer.__version__,
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at_ns=self._clock.now_ns(),
                endpoints=(endpoint,),
            ),
            prefix=self._asked.prefix,
            detectors=None,
            clock=self._clock,
        )
        self._registry.put_key(self._key_entry)
        self._registry.publish_status({"status": "active", "scheme": self._asked.scheme})
        self._registry.start()

    def stop(self) -> None:
        """Deregister; the key stays, as the operator's do."""
        if self._registry is not None:
            self._registry.stop()


def _material(asked: StandIn) -> bytes:
    wanted, path, other = (
        ("--seed-file", asked.seed_file, asked.key_file)
        if asked.scheme == "chacha20poly1305-v1"
        else ("--key-file", asked.key_file, asked.seed_file)
    )
    if path is None or other is not None:
        raise UsageError(f"--scheme {asked.scheme} takes {wanted}, and only that")
    try:
        material = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{wanted} {path}: {error.strerror}") from error
    if len(material) != 32:
        try:
            material = bytes.fromhex(material.decode().strip())
        except ValueError:
            material = b""
    if len(material) != 32:
        raise UsageError(f"{wanted} {path}: it must hold 32 bytes, or 64 hex digits")
    return material


def _key(asked: StandIn, material: bytes) -> tuple[Key, KeyEntry]:
    key_id = f"{asked.node}-{asked.scheme}"
    seeded = asked.scheme == "chacha20poly1305-v1"
    key = key_from_seed(key_id, material) if seeded else key_from_hex(key_id, material.hex())
    entry = KeyEntry(
        key_id=key_id,
        component=COMPONENT,
        scheme=asked.scheme,
        material=material.hex(),
        kind="seed" if seeded else "key",
        context=DETECTOR_CONTEXT,
    )
    return key, entry


def _days(text: str | None) -> frozenset[date] | None:
    if text is None:
        return None
    try:
        return frozenset(date.fromisoformat(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--days {text!r}: write days as 2017-07-04,2017-07-05") from error


def run_stand_in(asked: StandIn) -> dict[str, Any]:
    """Publish a recording to its end, or until SIGTERM.

    Raises:
        UsageError: options or files that cannot be used.
        UnreachableError: etcd does not answer, or no subscriber came in time.
    """
    clock = SystemClock()
    key, entry = _key(asked, _material(asked))
    replay = Replay(
        ReplayOptions(
            source=asked.source,
            bind=asked.bind,
            key=key,
            rate=asked.rate,
            speed=asked.speed,
            days=_days(asked.days),
            limit=asked.limit,
            node=asked.node,
            wait_for_subscribers=asked.wait_for,
            subscriber_timeout_s=asked.wait_s,
        ),
        clock,
        announcer=RegisteredDetector(asked, entry, clock) if asked.etcd else None,
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        replay.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    report = replay.run()
    return {"published": report.published, "seconds": report.seconds, "rate": report.rate}
