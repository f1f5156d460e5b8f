"""What the two schemes of the wire do with messages: decrypt, then decompress, under a limit.

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
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat, takewhile
from operator import itemgetter
from typing import ClassVar, Final

import lz4.block
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from google.protobuf.message import DecodeError
from nacl.bindings import crypto_secretbox_open
from nacl.exceptions import CryptoError

from consumer import columns
from consumer.errors import DecompressionError, EnvelopeError
from consumer.wire.keys import Candidate, Scheme
from proto.admission_pb2 import AdmissionEvent

NONCE_BYTES: Final = 12
SIZE_BYTES: Final = 4
# No LZ4 block grows by more than this when decompressed: a run costs one byte for each 255.
LZ4_MAX_RATIO: Final = 255

# Four zero bytes and the counter.
_V1_NONCE: Final = struct.Struct("<IQ")
# Parts of v1 messages and of plaintexts, cut in C.
_nonce_of = itemgetter(slice(NONCE_BYTES))
_sealed_of = itemgetter(slice(NONCE_BYTES, None))
_block_of = itemgetter(slice(SIZE_BYTES, None))


@dataclass(slots=True)
class Burst:
    """What some messages of one detector held, column by column, in the order of the messages.

    Columns and not one object a message, because a loop in C over a column costs a fraction of
    one in Python over messages.

    Attributes:
        payloads: the protobuf bytes of those that opened.
        blocks: the LZ4 blocks as received; None where the sender sent the protobuf bare.
        counters: counters of the v1 nonces; None where the scheme has none.
        schemes: how many opened under each scheme.
        refused: why, of each that did not open, by its place among the messages.
    """

    payloads: list[bytes] = field(default_factory=list)
    blocks: list[bytes | None] = field(default_factory=list)
    counters: list[int | None] = field(default_factory=list)
    schemes: Counter[Scheme] = field(default_factory=Counter)
    refused: dict[int, EnvelopeError] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many messages have been dealt with."""
        return len(self.payloads) + len(self.refused)


class Opener(ABC):
    """One candidate key with its cipher set up."""

    __slots__ = ("_limit", "candidate")

    #: Bytes of the shortest message.
    shortest: ClassVar[int]
    #: How a plaintext says the size of its payload.
    size_header: ClassVar[struct.Struct]

    def __init__(self, candidate: Candidate, limit: int) -> None:
        self.candidate = candidate
        self._limit = limit

    def open_run(self, messages: Sequence[bytes], burst: Burst) -> None:
        """Add to the burst what messages held, until one that this key does not open.

        It begins with the first message that has no result yet. A result is what a message held,
        or that it does not decompress.
        """
        self._open_ordinary(messages[len(burst) :], burst)
        begin = len(burst)
        if begin == len(messages):
            return
        messages = messages[begin:]
        if min(map(len, messages), default=0) < self.shortest:
            messages = [*takewhile(lambda message: len(message) >= self.shortest, messages)]
        plaintexts = self._decrypt_run(messages)
        if not plaintexts:
            return
        self.candidate.used = True
        before = len(burst.payloads)
        counters = self._counters(messages[: len(plaintexts)])
        try:
            payloads, blocks = self._decompress_run(plaintexts)
        except (DecompressionError, lz4.block.LZ4BlockError, struct.error):
            self._decompress_each(plaintexts, counters, begin, burst)
        else:
            burst.payloads += payloads
            burst.blocks += blocks
            burst.counters += counters
        burst.schemes[self.candidate.key.scheme] += len(burst.payloads) - before

    def _open_ordinary(self, messages: Sequence[bytes], burst: Burst) -> None:  # noqa: B027 - v0 has none
        """Add what the first messages held, while there is nothing special about any."""

    @abstractmethod
    def _decrypt_run(self, messages: Sequence[bytes]) -> list[bytes]:
        """The plaintexts of the first messages, up to one that this key does not open."""

    def _counters(self, messages: Sequence[bytes]) -> list[int | None]:
        """The counters of messages that opened."""
        return [None] * len(messages)

    def _may_be_bare(self, plaintext: bytes) -> bool:  # noqa: ARG002 - for v1
        """Whether a plaintext that does not decompress may be the event itself."""
        return False

    def _decompress_run(self, plaintexts: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The payloads and blocks of plaintexts that are all in order.

        Raises:
            DecompressionError, LZ4BlockError, struct.error: one of them may not be.
        """
        sizes = [size for (size,) in map(self.size_header.unpack_from, plaintexts)]
        blocks = list(map(_block_of, plaintexts))
        shortest, largest = min(map(len, blocks)), max(sizes)
        # Stricter than for each by itself, and so much cheaper.
        if not shortest or largest > min(self._limit, shortest * LZ4_MAX_RATIO):
            raise DecompressionError("to be looked at one by one")
        payloads = list(map(lz4.block.decompress, blocks, sizes))
        if list(map(len, payloads)) != sizes:
            raise DecompressionError("to be looked at one by one")
        return payloads, blocks

    def _decompress_each(
        self,
        plaintexts: Sequence[bytes],
        counters: Sequence[int | None],
        begin: int,
        burst: Burst,
    ) -> None:
        for place, (plaintext, counter) in enumerate(zip(plaintexts, counters, strict=True), begin):
            block: bytes | None = plaintext[SIZE_BYTES:]
            try:
                payload = _decompress(self.size_header, plaintext, self._limit)
            except DecompressionError as error:
                if not self._may_be_bare(plaintext):
                    burst.refused[place] = error
                    continue
                payload, block = plaintext, None
            burst.payloads.append(payload)
            burst.blocks.append(block)
            burst.counters.append(counter)


class ChaCha(Opener):
    """A key of chacha20poly1305-v1."""

    __slots__ = ("_decrypt", "_secret")

    shortest = NONCE_BYTES + 16
    size_header = struct.Struct("<I")

    def __init__(self, candidate: Candidate, limit: int) -> None:
        super().__init__(candidate, limit)
        self._secret = candidate.key.secret
        self._decrypt = ChaCha20Poly1305(candidate.key.secret).decrypt

    def _open_ordinary(self, messages: Sequence[bytes], burst: Burst) -> None:
        compiled = columns.compiled()
        if compiled is None:
            return
        payloads, blocks, counters = compiled.open_v1(messages, self._secret, self._limit)
        if payloads:
            self.candidate.used = True
            burst.payloads += payloads
            burst.blocks += blocks
            burst.counters += counters
            burst.schemes[self.candidate.key.scheme] += len(payloads)

    def _decrypt_run(self, messages: Sequence[bytes]) -> list[bytes]:
        plaintexts: list[bytes] = []
        decrypted = map(
            self._decrypt, map(_nonce_of, messages), map(_sealed_of, messages), repeat(None)
        )
        with suppress(InvalidTag):
            for plaintext in decrypted:
                plaintexts.append(plaintext)  # noqa: PERF402 - what came before a failure stays
        return plaintexts

    def _counters(self, messages: Sequence[bytes]) -> list[int | None]:
        nonces = map(_V1_NONCE.unpack_from, messages)
        return [counter if prefix == 0 else None for prefix, counter in nonces]

    def _may_be_bare(self, plaintext: bytes) -> bool:
        return _is_bare_event(plaintext, self._limit)


class _SecretBox(Opener):
    """A key of secretbox-v0."""

    __slots__ = ("_secret",)

    shortest = 24 + 16
    size_header = struct.Struct(">I")

    def __init__(self, candidate: Candidate, limit: int) -> None:
        super().__init__(candidate, limit)
        self._secret = candidate.key.secret

    def _decrypt_run(self, messages: Sequence[bytes]) -> list[bytes]:
        plaintexts: list[bytes] = []
        with suppress(CryptoError):
            for message in messages:
                plaintexts.append(crypto_secretbox_open(message[24:], message[:24], self._secret))  # noqa: PERF401 - it may raise half-way
        return plaintexts


def opener_of(candidate: Candidate, limit: int) -> Opener:
    """What opens messages under a candidate; no payload may be larger than `limit` bytes."""
    if candidate.key.scheme == "chacha20poly1305-v1":
        return ChaCha(candidate, limit)
    return _SecretBox(candidate, limit)


def _decompress(size_header: struct.Struct, plaintext: bytes, limit: int) -> bytes:
    """The payload of a plaintext's LZ4 block, whose size the header before it tells.

    Allocates nothing beyond ``limit``.

    Raises:
        DecompressionError: header cut off or above the limit, LZ4 garbage, or another size.
    """
    block = plaintext[SIZE_BYTES:]
    if not block:
        raise DecompressionError("the plaintext ends before its LZ4 block begins")
    (size,) = size_header.unpack_from(plaintext)
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
