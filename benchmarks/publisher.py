"""The publisher of the ingest benchmark: a process that sends as fast as it is told.

Like a detector: PUB with SNDHWM 1000, which drops when the subscriber lags, and a counter that
advances before a send that may drop. A detector is C++ and we are not, so that it takes no more of
the cores that it shares than a detector would, messages are sealed before the run and wait in
memory. Beyond `--ahead` of them, in a long run, they are sealed and sent by C (`benchmarks.sender`).
It stands for another machine, so at a rate it goes before the service where it may (SCHED_RR): what is
lost because the sender had to wait for a core says nothing about the receiver. For the same reason
both of its threads share one core: a machine that stands still makes no events either, while one whose
sending thread stands still alone drops what the receiver would have taken. What its queue had no
room for is counted, and how much the receiver had left to fetch at that moment.

With `--rate 0` it sends what the loopback takes: it waits where a detector would drop.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import json
import os
import struct
import sys
import termios
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import count, islice
from pathlib import Path
from typing import Any, get_args

import zmq

from benchmarks.events import Template, templates
from benchmarks.sender import Sender
from consumer.replay.seal import Sealer
from consumer.wire.keys import Key, Scheme, key_from_hex, key_from_seed

SEED = bytes(range(32))  # a test key
SLICE_S = 0.002
SEND_QUEUE = 1000
#: Messages in one go at most, and the pause after them: a publisher that had to wait for a core must not
#: overflow its own queue, which no subscriber could help.
CATCH_UP = SEND_QUEUE // 4
PAUSE_S = 0.001
MODELS = 512
#: Niceness of a publisher that sends all that the receiver takes.
AHEAD_OF_US = -10
#: Events of one day, as live ones are.
DAY = date(2017, 7, 5)
#: Messages sealed before the run, about 2 KB each.
AHEAD = 600_000

#: Moments of dropping that are told of one by one.
MOMENTS = 50

_INT = struct.Struct("i")


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


def _unsent_bytes() -> int:
    """What the kernel holds of our sockets' data that the other end has not taken."""
    unsent = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # most are no sockets
            unsent += _INT.unpack(fcntl.ioctl(int(path.name), termios.TIOCOUTQ, bytes(_INT.size)))[
                0
            ]
    return unsent


def _publish(
    ahead: deque[bytes],
    sender: Sender,
    *,
    first: int,
    rate: float,
    seconds: float,
) -> dict[str, Any]:
    """Send for so long; say how many, in how many seconds, and what the queue had no room for.

    Of each moment: the second, how many were dropped, and how many bytes the other end had not taken.
    """
    number = dropped = 0
    moments: list[tuple[float, int, int]] = []
    began = time.monotonic()
    end = began + seconds
    while (now := time.monotonic()) < end:
        due = int((now - began + SLICE_S) * rate) if rate else number + 64
        due = min(due, number + CATCH_UP)
        while number < due and ahead:
            sender.pass_on(ahead.popleft())
            number += 1
        if number < due:
            sender.send(first + number, number, due - number)
            number = due
        if sender.dropped > dropped:
            moments.append((round(now - began, 3), sender.dropped - dropped, _unsent_bytes()))
            dropped = sender.dropped
        if rate:
            time.sleep(max(PAUSE_S, SLICE_S - (time.monotonic() - now)))
    return {
        "published": number,
        "seconds": time.monotonic() - began,
        "dropped": dropped,
        "drops": moments[:MOMENTS],
    }


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
        if asked.rate:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        else:
            os.nice(AHEAD_OF_US)
    if asked.rate:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    models = models_of(asked.scheme, asked.size)
    messages = sealed(asked.scheme, models, asked.first)
    wanted = int(asked.rate * asked.seconds * 1.01) if asked.rate else asked.ahead
    ahead = deque(islice(messages, min(wanted, asked.ahead)))
    gc.freeze()
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
    # With it, what the queue has no room for comes back to us, to be counted and dropped here.
    socket.setsockopt(zmq.XPUB_NODROP, 1)
    socket.setsockopt(zmq.LINGER, 5000)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    print(json.dumps({"endpoint": f"tcp://127.0.0.1:{port}"}), flush=True)
    socket.recv()  # the subscription
    sys.stdin.readline()
    sender = Sender(socket, bench_key(asked.scheme), models, drops=asked.rate > 0)
    report = _publish(ahead, sender, first=asked.first, rate=asked.rate, seconds=asked.seconds)
    print(json.dumps(report), flush=True)
    socket.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
