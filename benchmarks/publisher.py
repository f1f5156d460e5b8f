"""The publisher of the ingest benchmark: a process that sends as fast as it is told.

Like a detector: PUB with SNDHWM 1000, which drops when the subscriber lags, and a counter that
advances before a send that may drop. A detector is C++ and we are not, so that it takes no more of
the cores that it shares than a detector would, messages are sealed before the run and wait in
memory. Beyond `--ahead` of them, in a long run, they are sealed and sent by C (`benchmarks.sender`).
It stands for another machine, so it goes before the service where it may raise its priority: what is
lost because the sender had to wait for a core says nothing about the receiver.

With `--rate 0` it sends what the loopback takes: it waits where a detector would drop.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import count, islice
from typing import get_args

import zmq

from benchmarks.events import Template, templates
from benchmarks.sender import Sender
from consumer.replay.seal import Sealer
from consumer.wire.keys import Key, Scheme, key_from_hex, key_from_seed

SEED = bytes(range(32))  # a test key
SLICE_S = 0.002
SEND_QUEUE = 1000
#: Messages in one go at most: a publisher that had to wait for a core must not overflow its own queue,
#: which no subscriber could help.
CATCH_UP = SEND_QUEUE // 4
MODELS = 512
#: Niceness, where the system allows it.
AHEAD_OF_US = -10
#: Events of one day, as live ones are.
DAY = date(2017, 7, 5)
#: Messages sealed before the run, about 2 KB each.
AHEAD = 600_000


def bench_key(scheme: Scheme) -> Key:
    """The key that the benchmark's messages are sealed with."""
    if scheme == "chacha20poly1305-v1":
        return key_from_seed("bench", SEED)
    return key_from_hex("bench", SEED.hex())


def models_of(scheme: Scheme, size: int) -> list[Template]:
    """Plaintexts of events of `size` bytes."""
    return [model.plaintext(scheme) for model in templates(MODELS, size, day=DAY)]


def sealed(scheme: Scheme, models: Sequence[Template], first: int) -> Iterator[bytes]:
    """Messages without end, numbered from `first`; their nonces count from 0."""
    sealer = Sealer(bench_key(scheme))
    return (sealer.encrypt(models[number % MODELS].with_number(number)) for number in count(first))


def _publish(
    socket: zmq.Socket[bytes],
    ahead: deque[bytes],
    sender: Sender,
    *,
    first: int,
    rate: float,
    seconds: float,
) -> tuple[int, float]:
    """Send for so long; how many were sent, and the seconds it took."""
    number = 0
    began = time.monotonic()
    end = began + seconds
    while (now := time.monotonic()) < end:
        due = int((now - began + SLICE_S) * rate) if rate else number + 64
        due = min(due, number + CATCH_UP)
        while number < due and ahead:
            socket.send(ahead.popleft())
            number += 1
        if number < due:
            sender.send(first + number, number, due - number)
            number = due
        if rate:
            time.sleep(max(0.0, SLICE_S - (time.monotonic() - now)))
    return number, time.monotonic() - began


def main() -> int:
    """Bind, seal, say where, wait for a subscriber and the word to go, publish, report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", required=True, choices=get_args(Scheme))
    parser.add_argument("--rate", type=float, required=True, help="0: as fast as it goes")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--ahead", type=int, default=AHEAD, help="messages sealed before the run")
    asked = parser.parse_args()
    with contextlib.suppress(PermissionError):
        os.nice(AHEAD_OF_US)
    models = models_of(asked.scheme, asked.size)
    messages = sealed(asked.scheme, models, asked.first)
    wanted = int(asked.rate * asked.seconds * 1.01) if asked.rate else asked.ahead
    ahead = deque(islice(messages, min(wanted, asked.ahead)))
    gc.freeze()
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
    socket.setsockopt(zmq.XPUB_NODROP, int(asked.rate == 0))
    socket.setsockopt(zmq.LINGER, 5000)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    print(json.dumps({"endpoint": f"tcp://127.0.0.1:{port}"}), flush=True)
    socket.recv()  # the subscription
    sys.stdin.readline()
    sender = Sender(socket, bench_key(asked.scheme), models)
    published, seconds = _publish(
        socket, ahead, sender, first=asked.first, rate=asked.rate, seconds=asked.seconds
    )
    print(json.dumps({"published": published, "seconds": seconds}), flush=True)
    socket.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
