"""What ordinary people and machines do on the second network, one process for each host.

python -m benchmarks.second_network.clients HOST SEED SECONDS FOLDER

Up to `AT_ONCE` activities run side by side; the next begins after a pause that is drawn.
"""

from __future__ import annotations

import contextlib
import ftplib
import http.client
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.second_network.hosts import ABSENT, DISCOVERY, FILES, NAMES, SITES, STORE, WEB
from benchmarks.second_network.servers import DOWNLOADS, PAGES

AT_ONCE = 5
MEAN_PAUSE_S = 0.9
PLACES = {WEB: "web.example", **{site: f"site{n}.example" for n, site in enumerate(SITES)}}


def _ask_name(name: str) -> None:
    subprocess.run(
        ["/usr/bin/dig", "+short", "+tries=1", f"@{NAMES}", name], capture_output=True, timeout=10,
        check=False,
    )  # fmt: skip


def _connection(rng: random.Random, place: str) -> http.client.HTTPConnection:
    if rng.random() < 0.5:
        return http.client.HTTPConnection(place, timeout=30)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(place, timeout=30, context=trusting)


def browse(rng: random.Random, folder: Path) -> None:
    """Look a site up, read some pages with their pictures, leave the connection to its time-out or close it."""
    del folder
    place = rng.choice([WEB, WEB, *SITES])
    _ask_name(PLACES[place])
    connection = _connection(rng, place)
    for _ in range(rng.randint(1, 5)):
        for _ in range(rng.randint(1, 7)):
            connection.request("GET", f"/page{rng.randrange(PAGES)}.html", headers=AGENT)
            connection.getresponse().read()
        time.sleep(min(18, rng.expovariate(1 / 4)))
    if rng.random() < 0.4:
        time.sleep(25)
    connection.close()


def single(rng: random.Random, folder: Path) -> None:
    """One request and no more, as programs ask."""
    del folder
    connection = _connection(rng, rng.choice([WEB, *SITES]))
    path = rng.choice(["/", f"/page{rng.randrange(PAGES)}.html", "/absent"])
    connection.request("GET", path, headers={"Connection": "close"})
    connection.getresponse().read()
    connection.close()


def form(rng: random.Random, folder: Path) -> None:
    """A form or a small file sent to the site of the house."""
    del folder
    connection = _connection(rng, WEB)
    connection.request("POST", "/form", rng.randbytes(int(200 * rng.paretovariate(0.9)) % 400_000))
    connection.getresponse().read()
    connection.close()


def download(rng: random.Random, folder: Path) -> None:
    """A large file."""
    del folder
    connection = _connection(rng, rng.choice([WEB, *SITES]))
    connection.request("GET", f"/download{rng.randrange(len(DOWNLOADS))}.bin")
    connection.getresponse().read()
    connection.close()


def watch(rng: random.Random, folder: Path) -> None:
    """A page that asks again every few seconds."""
    del folder
    connection = _connection(rng, WEB)
    pause = rng.uniform(1, 12)
    for _ in range(rng.randint(4, 12)):
        connection.request("GET", f"/page{rng.randrange(4)}.html", headers=AGENT)
        connection.getresponse().read()
        time.sleep(min(pause, 18))
    connection.close()


def names(rng: random.Random, folder: Path) -> None:
    """Some names looked up, one of them unknown."""
    del folder
    for _ in range(rng.randint(1, 4)):
        _ask_name(rng.choice([*PLACES.values(), f"host{rng.randrange(999)}.example"]))


def shell(rng: random.Random, folder: Path) -> None:
    """Work on another machine: a few commands with pauses, or a file fetched or sent."""
    key = ["-i", str(folder / "user.key"), "-o", "StrictHostKeyChecking=no",
           "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]  # fmt: skip
    size = int(2000 * rng.paretovariate(0.7)) % 3_000_000
    what = rng.choice(
        [
            f"for i in 1 2 3 4 5 6; do date; sleep {rng.uniform(0.3, 4):.1f}; done",
            f"head -c {size} /dev/urandom",
            "true",
        ]
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            ["/usr/bin/ssh", *key, f"root@{FILES}", what],
            capture_output=True,
            timeout=60,
            check=False,
        )


def transfer(rng: random.Random, folder: Path) -> None:
    """Files over FTP, without a name."""
    del folder
    with ftplib.FTP(FILES, timeout=30) as ftp:  # noqa: S321 - old protocols are part of old networks
        ftp.login()
        for _ in range(rng.randint(1, 3)):
            ftp.retrbinary(f"RETR page{rng.randrange(PAGES)}.html", lambda _: None)
            time.sleep(rng.uniform(0.1, 3))


def store(rng: random.Random, folder: Path) -> None:
    """Values kept in a store, over a connection that stays open, or one for each value."""
    del folder
    for _ in range(rng.randint(1, 3)):
        with socket.create_connection((STORE, 6379), timeout=30) as link:
            pause = rng.choice([0.01, 0.5, 4.0, 9.0])
            for _ in range(rng.randint(1, 40 if pause < 1 else 6)):
                value = rng.randbytes(rng.randint(5, 900)).hex()
                link.sendall(f"SET key{rng.randrange(50)} {value}\r\n".encode())
                link.recv(4096)
                time.sleep(pause)


def clock(rng: random.Random, folder: Path) -> None:
    """The time, asked for once or a few times."""
    del folder
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(3)
        for _ in range(rng.choice([1, 1, 4])):
            link.sendto(b"\x23" + rng.randbytes(47), (NAMES, 123))
            link.recv(100)
            time.sleep(rng.uniform(0.5, 2))


def discover(rng: random.Random, folder: Path) -> None:
    """Calls into the house that nobody answers."""
    del folder
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for _ in range(rng.randint(2, 4)):
            link.sendto(b"M-SEARCH * HTTP/1.1\r\n" + b"x" * rng.randint(60, 140), (DISCOVERY, 1900))
            time.sleep(1)


def in_vain(rng: random.Random, folder: Path) -> None:
    """A service that was moved, or a machine that is switched off."""
    del folder
    with contextlib.suppress(OSError):
        target = rng.choice([(WEB, 8443), (FILES, 445), (ABSENT, 443), (ABSENT, 9100)])
        socket.create_connection(target, timeout=rng.uniform(2, 9)).close()


AGENT = {"User-Agent": "second-network/1.0", "Accept": "*/*", "Accept-Language": "en"}
Activity = Callable[[random.Random, Path], None]
INSIDE: dict[Activity, int] = {
    browse: 20, single: 14, form: 6, download: 4, watch: 6, names: 14, shell: 8, transfer: 4,
    store: 10, clock: 8, discover: 3, in_vain: 4,
}  # fmt: skip
GUESTS: dict[Activity, int] = {browse: 20, single: 10, form: 4, download: 3, watch: 3}


def main() -> None:
    """Behave until the time is over."""
    host, seed, seconds, folder = (
        sys.argv[1],
        int(sys.argv[2]),
        float(sys.argv[3]),
        Path(sys.argv[4]),
    )
    chosen = GUESTS if host.startswith("guest") else INSIDE
    rng = random.Random(f"{host} {seed}")
    free = threading.Semaphore(AT_ONCE)
    until = time.monotonic() + seconds

    def act(activity: Activity, own: random.Random) -> None:
        with (
            free,
            contextlib.suppress(
                OSError, http.client.HTTPException, ftplib.Error, subprocess.SubprocessError
            ),
        ):
            activity(own, Path(folder))

    while time.monotonic() < until:
        activity = rng.choices(list(chosen), list(chosen.values()))[0]
        own = random.Random(rng.random())
        threading.Thread(target=act, args=(activity, own), daemon=True).start()
        time.sleep(rng.expovariate(1 / MEAN_PAUSE_S))


if __name__ == "__main__":
    main()
