"""Opening what comes off the wire: decrypt, then decompress, under a limit.

Two schemes are in the field.

=====================  ================================  =======================================
scheme                 message                           plaintext
=====================  ================================  =======================================
chacha20poly1305-v1    nonce 12, ciphertext, tag 16      u32 little-endian size, LZ4 block; or
                       (ChaCha20-Poly1305, RFC 8439)     the bare protobuf
secretbox-v0           nonce 24, tag 16, ciphertext      u32 big-endian size, LZ4 block
                       (libsodium crypto_secretbox)
=====================  ================================  =======================================

A v1 nonce is four zero bytes and a u64 little-endian counter, which is handed on: gaps in it are
lost messages.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import lz4.block
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from google.protobuf.message import DecodeError
from nacl.bindings import crypto_secretbox_open
from nacl.exceptions import CryptoError

from consumer.errors import DecompressionError, EnvelopeError, TamperedError, UnknownKeyError
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
from proto.admission_pb2 import AdmissionEvent

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
NONCE_BYTES: Final = 12
SIZE_BYTES: Final = 4
# No LZ4 block grows by more than this when decompressed: a run costs one byte for each 255.
LZ4_MAX_RATIO: Final = 255

# Four zero bytes and the counter of a v1 nonce; the size headers of v1 and v0.
_unpack_nonce = struct.Struct("<IQ").unpack
_unpack_little = struct.Struct("<I").unpack_from
_unpack_big = struct.Struct(">I").unpack_from
# Half the time of a named tuple's own constructor, which is Python.
_new = tuple.__new__


class Opened(NamedTuple):
    """What a message held. A tuple: one is made for every message, and this is the cheapest way.

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
        self._openers: tuple[_Opener, ...] = ()
        self._last: dict[str, _Opener] = {}

    def open(self, detector: str, message: bytes) -> Opened:
        """Open one message of ``detector``.

        Raises:
            TamperedError: too short to be a message of any scheme.
            UnknownKeyError: no candidate opens it. A message altered on its way looks the same.
            DecompressionError: it opens, but what it holds is not what its size header says, or
                is larger than the limit.
        """
        (result,) = self.open_all(detector, (message,))
        if isinstance(result, EnvelopeError):
            raise result
        return result

    def open_all(self, detector: str, messages: Sequence[bytes]) -> list[Opened | EnvelopeError]:
        """Open messages of ``detector``; for each what it held, or what `open` would raise."""
        candidates = self._ring.candidates()
        if candidates is not self._candidates:
            self._adopt(candidates)
        results: list[Opened | EnvelopeError] = []
        while True:
            last = self._last.get(detector)
            if last is not None:
                last.open_run(messages, results)
            if len(results) == len(messages):
                return results
            results.append(self._search(detector, messages[len(results)], last))

    def _search(
        self, detector: str, message: bytes, last: _Opener | None
    ) -> Opened | EnvelopeError:
        """Try every key on a message that the last one did not open."""
        if len(message) < _ChaCha.shortest:
            return TamperedError(
                f"{detector}: {len(message)} bytes; the shortest message has {_ChaCha.shortest}"
            )
        scheme = self._scheme_of(detector)
        tried = 0
        results: list[Opened | EnvelopeError] = []
        for opener in self._openers:
            if scheme is not None and opener.candidate.key.scheme != scheme:
                continue
            tried += 1
            if opener is last:
                continue
            opener.open_run((message,), results)
            if results:
                if isinstance(results[0], Opened):
                    self._last[detector] = opener
                return results[0]
        kind = "" if scheme is None else f"{scheme} "
        return UnknownKeyError(
            f"{detector}: none of {tried} {kind}keys opens this message of "
            f"{len(message)} bytes; it is tried again when a key is added"
        )

    def _adopt(self, candidates: tuple[Candidate, ...]) -> None:
        known = {opener.candidate: opener for opener in self._openers}
        self._openers = tuple(
            known.get(candidate) or _opener(candidate, self._limit) for candidate in candidates
        )
        self._last = {
            detector: opener for detector, opener in self._last.items() if opener in self._openers
        }
        self._candidates = candidates


class _Opener(ABC):
    """One candidate key with its cipher set up."""

    __slots__ = ("_key_id", "_limit", "candidate")

    def __init__(self, candidate: Candidate, limit: int) -> None:
        self.candidate = candidate
        self._key_id = candidate.key.key_id
        self._limit = limit

    @abstractmethod
    def open_run(self, messages: Sequence[bytes], results: list[Opened | EnvelopeError]) -> None:
        """Add the results of messages until one that this key does not open.

        It begins with the first message that has no result yet. A result is what a message held,
        or that it does not decompress.
        """


class _ChaCha(_Opener):
    __slots__ = ("_decrypt",)

    shortest: Final = 12 + 16

    def __init__(self, candidate: Candidate, limit: int) -> None:
        super().__init__(candidate, limit)
        self._decrypt = ChaCha20Poly1305(candidate.key.secret).decrypt

    def open_run(self, messages: Sequence[bytes], results: list[Opened | EnvelopeError]) -> None:
        decrypt, limit, key_id = self._decrypt, self._limit, self._key_id
        scheme: Scheme = "chacha20poly1305-v1"
        candidate, shortest = self.candidate, self.shortest
        for message in messages[len(results) :]:
            if len(message) < shortest:
                return
            nonce = message[:NONCE_BYTES]
            try:
                plaintext = decrypt(nonce, message[NONCE_BYTES:], None)
            except InvalidTag:
                return
            candidate.used = True
            prefix, count = _unpack_nonce(nonce)
            counter = count if prefix == 0 else None
            block = plaintext[SIZE_BYTES:]
            try:
                payload = _decompress(_unpack_little, plaintext, block, limit)
            except DecompressionError as error:
                results.append(
                    Opened(plaintext, None, counter, key_id, scheme)
                    if _is_bare_event(plaintext, limit)
                    else error
                )
            else:
                results.append(_new(Opened, (payload, block, counter, key_id, scheme)))


class _SecretBox(_Opener):
    __slots__ = ("_secret",)

    shortest: Final = 24 + 16

    def __init__(self, candidate: Candidate, limit: int) -> None:
        super().__init__(candidate, limit)
        self._secret = candidate.key.secret

    def open_run(self, messages: Sequence[bytes], results: list[Opened | EnvelopeError]) -> None:
        for message in messages[len(results) :]:
            if len(message) < self.shortest:
                return
            try:
                plaintext = crypto_secretbox_open(message[24:], message[:24], self._secret)
            except CryptoError:
                return
            self.candidate.used = True
            block = plaintext[SIZE_BYTES:]
            try:
                payload = _decompress(_unpack_big, plaintext, block, self._limit)
            except DecompressionError as error:
                results.append(error)
            else:
                results.append(Opened(payload, block, None, self._key_id, "secretbox-v0"))


def _opener(candidate: Candidate, limit: int) -> _Opener:
    if candidate.key.scheme == "chacha20poly1305-v1":
        return _ChaCha(candidate, limit)
    return _SecretBox(candidate, limit)


def _decompress(
    unpack_size: Callable[[bytes], tuple[Any, ...]], plaintext: bytes, block: bytes, limit: int
) -> bytes:
    """The payload of ``block``, whose size the plaintext's header tells.

    Allocates nothing beyond ``limit``.

    Raises:
        DecompressionError: header cut off or above the limit, LZ4 garbage, or another size.
    """
    if not block:
        raise DecompressionError("the plaintext ends before its LZ4 block begins")
    (size,) = unpack_size(plaintext)
    if size > limit:
        raise DecompressionError(
            f"size header says {size} bytes; the limit is {limit} (subscriber.max_event_mb)"
        )
    if size > len(block) * LZ4_MAX_RATIO:
        raise DecompressionError(
            f"size header says {size} bytes; a block of {len(block)} bytes cannot hold so much"
        )
    try:
        payload: bytes = lz4.block.decompress(block, uncompressed_size=size)
    except lz4.block.LZ4BlockError as error:
        raise DecompressionError(f"not an LZ4 block of {size} bytes: {error}") from error
    if len(payload) != size:
        raise DecompressionError(f"size header says {size} bytes; the block holds {len(payload)}")
    return payload


def _is_bare_event(plaintext: bytes, limit: int) -> bool:
    """Whether a v1 sender whose compressor failed sent the protobuf as it is.

    Almost any bytes parse as some protobuf, so one of the fields that identify an event is asked
    for too.
    """
    if len(plaintext) > limit:
        return False
    try:
        event = AdmissionEvent.FromString(plaintext)
    except DecodeError:
        return False
    return bool(event.event_id or event.originating_node_id or event.HasField("event_timestamp"))
