"""Opening what comes off the wire: which key opens a message, and what is then in it.

What the two schemes do is in `schemes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from consumer.errors import TamperedError, UnknownKeyError
from consumer.wire.keys import (
    ARTIFACT_CONTEXT,
    DETECTOR_CONTEXT,
    Candidate,
    Key,
    KeyRing,
    Scheme,
    derive_key,
    key_from_hex,
    key_from_seed,
)
from consumer.wire.schemes import Burst, ChaCha, Opener, opener_of

__all__ = [
    "ARTIFACT_CONTEXT",
    "DETECTOR_CONTEXT",
    "Envelope",
    "Key",
    "KeyRing",
    "Opened",
    "Scheme",
    "derive_key",
    "key_from_hex",
    "key_from_seed",
]

MIB: Final = 1024 * 1024


class Opened(NamedTuple):
    """What one message held.

    Attributes:
        payload: the protobuf bytes.
        block: the LZ4 block as received, of which ``payload`` is the decompressed form; None if
            the sender sent the protobuf bare.
        counter: the v1 nonce's counter; None if the scheme has none.
        key_id: name of the key that opened it.
        scheme: scheme of that key.
    """

    payload: bytes
    block: bytes | None
    counter: int | None
    key_id: str
    scheme: Scheme


class Envelope:
    """Opens messages with the ring's candidates. One caller at a time.

    For each detector the key that opened its last message is tried first, then the ring's order.

    Args:
        ring: the candidates; changes are seen at the next message.
        max_event_bytes: largest payload. The size header is held against it before anything is
            allocated.
        scheme_of: the only scheme that a detector's messages may have; None for any.
    """

    def __init__(
        self,
        ring: KeyRing,
        *,
        max_event_bytes: int = 16 * MIB,
        scheme_of: Callable[[str], Scheme | None] = lambda _detector: None,
    ) -> None:
        self._ring = ring
        self._limit = max_event_bytes
        self._scheme_of = scheme_of
        self._candidates: tuple[Candidate, ...] = ()
        self._openers: tuple[Opener, ...] = ()
        self._last: dict[str, Opener] = {}

    def open(self, detector: str, message: bytes) -> Opened:
        """Open one message of ``detector``.

        Raises:
            TamperedError: too short to be a message of any scheme.
            UnknownKeyError: no candidate opens it. A message altered on its way looks the same.
            DecompressionError: it opens, but what it holds is not what its size header says, or
                is larger than the limit.
        """
        burst = self.open_all(detector, (message,))
        if burst.refused:
            raise burst.refused[0]
        key = self._last[detector].candidate.key
        (payload,), (block,), (counter,) = burst.payloads, burst.blocks, burst.counters
        return Opened(payload, block, counter, key.key_id, key.scheme)

    def open_all(self, detector: str, messages: Sequence[bytes]) -> Burst:
        """Open messages of ``detector``; what `open` would raise for one is in ``refused``."""
        candidates = self._ring.candidates()
        if candidates is not self._candidates:
            self._adopt(candidates)
        burst = Burst()
        while True:
            last = self._last.get(detector)
            if last is not None:
                last.open_run(messages, burst)
            if len(burst) == len(messages):
                return burst
            self._search(detector, messages, last, burst)

    def _search(
        self, detector: str, messages: Sequence[bytes], last: Opener | None, burst: Burst
    ) -> None:
        """Try every key on the first message that has no result; refuse it if none opens it."""
        place = len(burst)
        message = messages[place]
        if len(message) < ChaCha.shortest:
            burst.refused[place] = TamperedError(
                f"{detector}: {len(message)} bytes; the shortest message has {ChaCha.shortest}"
            )
            return
        scheme = self._scheme_of(detector)
        tried = 0
        for opener in self._openers:
            if scheme is not None and opener.candidate.key.scheme != scheme:
                continue
            tried += 1
            if opener is last:
                continue
            opener.open_run(messages[: place + 1], burst)
            if len(burst) > place:
                if place not in burst.refused:
                    self._last[detector] = opener
                return
        kind = "" if scheme is None else f"{scheme} "
        burst.refused[place] = UnknownKeyError(
            f"{detector}: none of {tried} {kind}keys opens this message of "
            f"{len(message)} bytes; it is tried again when a key is added"
        )

    def _adopt(self, candidates: tuple[Candidate, ...]) -> None:
        known = {opener.candidate: opener for opener in self._openers}
        self._openers = tuple(
            known.get(candidate) or opener_of(candidate, self._limit) for candidate in candidates
        )
        self._last = {
            detector: opener for detector, opener in self._last.items() if opener in self._openers
        }
        self._candidates = candidates
