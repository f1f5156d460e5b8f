"""The publisher of the ingest benchmark: a process that seals and sends as fast as it is told.

Like a detector: PUB with SNDHWM 1000, drops when the subscriber lags; the counter advances before
a send that may drop.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import zmq

from benchmarks.events import templates
from consumer.replay.seal import Sealer
from consumer.wire.keys import key_from_hex, key_from_seed

SEED = bytes(range(32))  # a test key
SLICE_S = 0.002


def main() -> int:
    """Bind, say where, wait for a subscriber and the word to go, publish, report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", required=True)
    parser.add_argument("--rate", type=float, required=True, help="0: as fast as it goes")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    key = (
        key_from_seed("bench", SEED)
        if asked.scheme == "chacha20poly1305-v1"
        else key_from_hex("bench", SEED.hex())
    )
    sealer = Sealer(key)
    models = templates(512, asked.size)
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 1000)
    socket.setsockopt(zmq.LINGER, 5000)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    print(json.dumps({"endpoint": f"tcp://127.0.0.1:{port}"}), flush=True)
    socket.recv()  # the subscription
    sys.stdin.readline()
    number = asked.first
    began = time.monotonic()
    end = began + asked.seconds
    while (now := time.monotonic()) < end:
        due = int((now - began + SLICE_S) * asked.rate) if asked.rate else number - asked.first + 64
        while number - asked.first < due:
            socket.send(sealer.seal(models[number % 512].with_number(number)))
            number += 1
        if asked.rate:
            time.sleep(max(0.0, SLICE_S - (time.monotonic() - now)))
    seconds = time.monotonic() - began
    print(json.dumps({"published": number - asked.first, "seconds": seconds}), flush=True)
    socket.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
