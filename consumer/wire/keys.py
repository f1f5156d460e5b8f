"""Keys that may open a detector's messages, and the ring that keeps the candidates in order."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, get_args

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consumer.clock import Clock
from consumer.errors import ConfigurationError

Scheme = Literal["chacha20poly1305-v1", "secretbox-v0"]

KEY_BYTES: Final = 32
DETECTOR_CONTEXT: Final = "ml-defender:ml-detector-to-firewall:v1"
ARTIFACT_CONTEXT: Final = "ml-defender:rag-artifacts:v1"

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Key:
    """One key, ready to use: a seed has already been turned into its derived key.

    Attributes:
        key_id: name of the key; shown in logs instead of the key.
        scheme: the wire scheme it belongs to.
        secret: 32 bytes; never shown.
        not_before_ns: UTC ns from which the operator means it to be used. It only orders keys that
            arrive together: a detector may use a key before we think it should.
        not_after_ns: UTC ns after which, and the ring's grace time, it is no candidate any more.

    Raises:
        ConfigurationError: unknown scheme, or a secret that is not 32 bytes long.
    """

    key_id: str
    scheme: Scheme
    secret: bytes = field(repr=False)
    not_before_ns: int | None = None
    not_after_ns: int | None = None

    def __post_init__(self) -> None:
        if self.scheme not in get_args(Scheme):
            raise ConfigurationError(
                f"key {self.key_id}: unknown scheme {self.scheme!r}; "
                f"use one of {', '.join(get_args(Scheme))}"
            )
        if len(self.secret) != KEY_BYTES:
            raise ConfigurationError(
                f"key {self.key_id}: {len(self.secret)} bytes; a key has exactly {KEY_BYTES}"
            )


def derive_key(seed: bytes, context: str) -> bytes:
    """The 32-byte key of a channel: HKDF-SHA256 (RFC 5869) over the deployment's seed.

    Raises:
        ConfigurationError: the seed is not 32 bytes long.
    """
    if len(seed) != KEY_BYTES:
        raise ConfigurationError(f"seed: {len(seed)} bytes; a seed has exactly {KEY_BYTES}")
    hkdf = HKDF(SHA256(), length=KEY_BYTES, salt=bytes(KEY_BYTES), info=context.encode())
    return hkdf.derive(seed)


def key_from_seed(
    key_id: str,
    seed: bytes,
    context: str = DETECTOR_CONTEXT,
    *,
    not_before_ns: int | None = None,
    not_after_ns: int | None = None,
) -> Key:
    """A ``chacha20poly1305-v1`` key from the deployment's 32-byte seed.

    Raises:
        ConfigurationError: the seed is not 32 bytes long.
    """
    secret = derive_key(seed, context)
    return Key(key_id, "chacha20poly1305-v1", secret, not_before_ns, not_after_ns)


def key_from_hex(
    key_id: str,
    digits: str,
    *,
    not_before_ns: int | None = None,
    not_after_ns: int | None = None,
) -> Key:
    """A ``secretbox-v0`` key from its 64 hex digits, in either case.

    Raises:
        ConfigurationError: not hex, or not 32 bytes. The message does not repeat the digits.
    """
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        raise ConfigurationError(
            f"key {key_id}: not hex; a key is {2 * KEY_BYTES} hex digits"
        ) from None
    return Key(key_id, "secretbox-v0", secret, not_before_ns, not_after_ns)


@dataclass(slots=True, eq=False)
class Candidate:
    """A key in the ring. Whoever opens a message with it sets ``used``; the rest is the ring's.

    Attributes:
        drop_ns: UTC ns at which its ``not_after`` and the grace time are over.
        idle_until: monotonic seconds until which a key that is no longer listed is kept.
    """

    key: Key
    order: int
    drop_ns: int | None
    idle_until: float | None = None
    used: bool = False


class _View(NamedTuple):
    """What readers take in one step, without the lock: the candidates, and until when they hold."""

    candidates: tuple[Candidate, ...]
    until_ns: int | None
    until: float | None


class KeyRing:
    """The candidates, newest first. Thread-safe.

    Keys change without notice, and a running detector goes on with an old key after a registry
    handed out a new one. So a key that is no longer listed stays a candidate for the grace time,
    and longer while it still opens messages. A key past its ``not_after`` plus the grace time is
    dropped even if it does. `remove` drops a key at once.

    Attributes:
        generation: grows when a key becomes or ceases to be a candidate by `add`, `replace` or
            `remove`: time to try again what no key opened.
    """

    def __init__(self, clock: Clock, keys: Iterable[Key] = (), *, grace_s: float = 3600.0) -> None:
        self._clock = clock
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._held: dict[tuple[Scheme, bytes], Candidate] = {}
        self._orders = 0
        self._view = _View((), None, None)
        self.generation = 0
        self.replace(keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Take ``keys`` as the ones that are listed now; the others retire."""
        listed = {(key.scheme, key.secret): key for key in keys}
        with self._lock:
            changed = self._take(listed)
            for identity, held in self._held.items():
                if identity not in listed and held.idle_until is None:
                    held.idle_until = self._clock.monotonic() + self._grace_s
                    held.used = False
                    changed = True
            self._look_over(changed=changed)

    def add(self, key: Key) -> None:
        """List one key beside those that are listed."""
        with self._lock:
            changed = self._take({(key.scheme, key.secret): key})
            self._look_over(changed=changed)

    def remove(self, key_id: str) -> None:
        """Drop every key of this name at once, without grace."""
        with self._lock:
            gone = [name for name, held in self._held.items() if held.key.key_id == key_id]
            for name in gone:
                del self._held[name]
            self._look_over(changed=bool(gone))

    def candidates(self) -> tuple[Candidate, ...]:
        """Every key worth trying, newest first. The same tuple until something changes."""
        candidates, until_ns, until = self._view
        if (until_ns is not None and self._clock.now_ns() >= until_ns) or (
            until is not None and self._clock.monotonic() >= until
        ):
            with self._lock:
                self._look_over(changed=False)
                return self._view.candidates
        return candidates

    def _take(self, keys: dict[tuple[Scheme, bytes], Key]) -> bool:
        changed = False
        for identity, key in sorted(keys.items(), key=lambda item: item[1].not_before_ns or 0):
            held = self._held.get(identity)
            if held is not None and held.idle_until is None and held.key == key:
                continue
            changed = True
            self._orders += 1
            drop_ns = key.not_after_ns
            if drop_ns is not None:
                drop_ns += int(self._grace_s * _NS_PER_S)
            self._held[identity] = Candidate(key, self._orders, drop_ns)
        return changed

    def _look_over(self, *, changed: bool) -> None:
        now_ns, now = self._clock.now_ns(), self._clock.monotonic()
        for identity, held in list(self._held.items()):
            if held.idle_until is not None and now >= held.idle_until and held.used:
                held.idle_until = now + self._grace_s
                held.used = False
            past = held.drop_ns is not None and now_ns >= held.drop_ns
            idle = held.idle_until is not None and now >= held.idle_until
            if past or idle:
                del self._held[identity]
        kept = sorted(self._held.values(), key=lambda held: -held.order)
        self._view = _View(
            tuple(kept),
            min((held.drop_ns for held in kept if held.drop_ns is not None), default=None),
            min((held.idle_until for held in kept if held.idle_until is not None), default=None),
        )
        if changed:
            self.generation += 1
