"""The loops over columns of messages, compiled where the installation found a C compiler.

`columns.c` has them. Each has a twin in Python, which says what is right and which is used where
there is nothing compiled; see the functions of `Columns` for whose twin each is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol, cast

import structlog

log = structlog.get_logger("columns")

#: Of `columns.c`, counted up with every change of what it offers.
VERSION: Final = 2

#: The functions that `bind` is told of, in its order, and the modules whose libraries have them.
_FUNCTIONS: Final = (
    ("nacl._sodium", "crypto_aead_chacha20poly1305_ietf_decrypt"),
    ("nacl._sodium", "crypto_generichash_blake2b"),
    ("lz4.block._block", "LZ4_decompress_safe"),
    ("zlib", "crc32"),
    ("zmq.backend.cython._zmq", "zmq_msg_init"),
    ("zmq.backend.cython._zmq", "zmq_msg_recv"),
    ("zmq.backend.cython._zmq", "zmq_msg_data"),
    ("zmq.backend.cython._zmq", "zmq_msg_size"),
    ("zmq.backend.cython._zmq", "zmq_msg_more"),
    ("zmq.backend.cython._zmq", "zmq_msg_close"),
)


class Columns(Protocol):
    """What is compiled. Each takes the ordinary messages only and leaves the rest to its twin."""

    VERSION: int

    def bind(self, *addresses: int) -> None:
        """Say where the functions of the libraries are; before anything else."""

    def receive(
        self, socket: int, most: int, most_bytes: int, largest: int
    ) -> tuple[list[bytes], int, int, int]:
        """Read messages off a ZeroMQ socket without waiting; the twin is `Link.burst`.

        `socket` is the address of the socket. At most `most` messages, or about `most_bytes`.
        Returns the messages, how many were dropped because they had several parts or were larger
        than `largest`, and the errno that ended it, 0 if none did.
        """

    def open_v1(
        self, messages: Sequence[bytes], secret: bytes, limit: int
    ) -> tuple[list[bytes], list[bytes], list[int | None]]:
        """Open messages of chacha20poly1305-v1; the twin is `Opener.open_run`.

        Returns payloads, LZ4 blocks and counters of the first messages, up to one that the key does
        not open or that does not decompress to a payload of at most `limit` bytes. Other threads
        run meanwhile.
        """

    def marks(self, payloads: Sequence[bytes], timed: bool) -> tuple[list[int], list[bytes]] | None:
        """Times (UTC ns) and identity digests of events; the twin is `admission.marks`."""

    def encode(self, *columns: list[Any]) -> bytes | None:
        """The records of events, None if one does not fit into a record; see `record.encode`.

        The columns are those of `Batch.columns`, in their order. Raises ValueError if one has
        another length than the others.
        """


@cache
def compiled() -> Columns | None:
    """What was compiled for this Python, or None. It is loaded when first asked for."""
    return load()


def load() -> Columns | None:
    """Load what was compiled, and tell it where the libraries are. None if that cannot be."""
    try:
        found = cast("Columns", import_module("consumer.columns._compiled"))
        if found.VERSION != VERSION:
            raise ImportError(f"compiled is version {found.VERSION}, not {VERSION}: `make setup`")
        import_module("nacl.bindings")  # sets libsodium up for this processor
        found.bind(*(_address(module, name) for module, name in _FUNCTIONS))
    except (ImportError, OSError, AttributeError) as error:
        log.info("nothing compiled is used; reception takes twice the time", reason=str(error))
        return None
    return found


def _address(module: str, name: str) -> int:
    """Where a function lies in the library that a module is, or was built with.

    Raises AttributeError if the library keeps it to itself.
    """
    library = ctypes.CDLL(getattr(import_module(module), "__file__", None))
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
