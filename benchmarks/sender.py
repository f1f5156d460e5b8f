"""What the benchmark's publisher sends beyond what it sealed ahead: by C where there is a compiler.

A detector is C++ and shares its cores with us, so what seals and sends in its place should take no
more of them than it does. Without a compiler, or for the older scheme, Python does it.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import zmq

from benchmarks.events import DIGITS, Template
from consumer.replay.seal import Sealer
from consumer.wire.keys import Key

_SOURCE = Path(__file__).with_name("sender.c")


class _Sender(ctypes.Structure):
    _fields_ = (
        ("encrypt", ctypes.c_void_p),
        ("init_size", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("send", ctypes.c_void_p),
        ("close", ctypes.c_void_p),
        ("socket", ctypes.c_void_p),
        ("secret", ctypes.c_char_p),
        ("models", ctypes.c_uint32),
        ("plaintexts", ctypes.POINTER(ctypes.c_char_p)),
        ("sizes", ctypes.POINTER(ctypes.c_uint32)),
        ("digits_at", ctypes.POINTER(ctypes.c_uint32)),
        ("flags", ctypes.c_int),
        ("dropped", ctypes.c_long),
    )


class Sender:
    """Seals and sends numbered events on a socket.

    Args:
        socket: an XPUB socket that says when its queue is full (`XPUB_NODROP`).
        models: plaintexts of the key's scheme.
        drops: whether a message is dropped and counted then, as a detector's is, or has to wait.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], key: Key, models: Sequence[Template], *, drops: bool
    ) -> None:
        self._socket = socket
        self._flags = zmq.DONTWAIT if drops else 0
        self._dropped = 0
        self._models = models
        self._sealer = Sealer(key)
        self._run = _compiled() if key.scheme == "chacha20poly1305-v1" else None
        if self._run is not None:
            self._told = _told(socket, key, models, self._flags)

    def send(self, first: int, counter: int, count: int) -> None:
        """Send events number `first` and following, sealed under nonces from `counter` on."""
        if self._run is not None:
            sent = self._run(ctypes.byref(self._told), first, counter, count)
            if sent != count:
                raise SystemExit(f"the publisher sent {sent} of {count} messages")
            return
        self._sealer.counter = counter
        for number in range(first, first + count):
            model = self._models[number % len(self._models)]
            self.pass_on(self._sealer.encrypt(model.with_number(number)))

    def pass_on(self, message: bytes) -> None:
        """Send a message that was sealed before."""
        try:
            self._socket.send(message, self._flags)
        except zmq.Again:
            self._dropped += 1

    @property
    def dropped(self) -> int:
        """Messages that the queue had no room for."""
        return self._dropped + (self._told.dropped if self._run is not None else 0)


def _compiled() -> Any:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "sender.so"
        subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", str(_SOURCE), "-o", str(library)], check=True
        )
        run = ctypes.CDLL(str(library)).send_run
    run.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_long)
    run.restype = ctypes.c_long
    return run


def _told(socket: zmq.Socket[bytes], key: Key, models: Sequence[Template], flags: int) -> _Sender:
    sodium = ctypes.CDLL(import_module("nacl._sodium").__file__)
    libzmq = ctypes.CDLL(import_module("zmq.backend.cython._zmq").__file__)
    plaintexts = [model.with_number(0) for model in models]
    numbers = ctypes.c_uint32 * len(models)
    return _Sender(
        *(
            ctypes.cast(function, ctypes.c_void_p)
            for function in (
                sodium.crypto_aead_chacha20poly1305_ietf_encrypt,
                libzmq.zmq_msg_init_size,
                libzmq.zmq_msg_data,
                libzmq.zmq_msg_send,
                libzmq.zmq_msg_close,
            )
        ),
        socket.underlying,
        key.secret,
        len(models),
        (ctypes.c_char_p * len(models))(*plaintexts),
        numbers(*map(len, plaintexts)),
        numbers(*(len(model.head) for model in models)),
        flags,
    )


assert DIGITS == 12, "sender.c writes as many digits"
