"""The sender's side of the envelope: compress, then encrypt, as a detector does."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import lz4.block
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_secretbox

from consumer.wire.keys import Key
from consumer.wire.schemes import SIZE_BYTES


class Sealer:
    """Seals payloads under one key, in that key's scheme. One caller at a time.

    Args:
        key: the key; it says the scheme.
        counter: first v1 nonce counter. A detector starts at 0.
        random_bytes: where the nonces of ``secretbox-v0`` come from.

    Attributes:
        counter: nonce counter of the next v1 message: how many were sealed, if it began at 0.
    """

    def __init__(
        self, key: Key, *, counter: int = 0, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.counter = counter
        self._random_bytes = random_bytes
        self._secret = key.secret
        self._chacha = ChaCha20Poly1305(key.secret) if key.scheme == "chacha20poly1305-v1" else None

    def seal(self, payload: bytes) -> bytes:
        """The message that carries ``payload``. Advances the counter, sent or not."""
        block: bytes = lz4.block.compress(payload, store_size=False)
        order: Literal["big", "little"] = "big" if self._chacha is None else "little"
        return self.encrypt(len(payload).to_bytes(SIZE_BYTES, order) + block)

    def encrypt(self, plaintext: bytes) -> bytes:
        """Encrypt ``plaintext`` as it is: a bare protobuf as v1 senders send it when LZ4 fails."""
        if self._chacha is None:
            nonce = self._random_bytes(24)
            return nonce + crypto_secretbox(plaintext, nonce, self._secret)
        nonce = bytes(4) + self.counter.to_bytes(8, "little")
        self.counter += 1
        return nonce + self._chacha.encrypt(nonce, plaintext, None)
