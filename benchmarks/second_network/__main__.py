"""Makes the second network, lets it live for a while, and writes its labelled flows.

    sudo python -m benchmarks.second_network --minutes 20 --out second_network.parquet

Needs root, network namespaces, TUN devices and Debian's packages `iproute2 openssl openssh-server
openssh-client nginx-light dnsmasq-base vsftpd redis-server bind9-dnsutils nmap hydra slowhttptest
apache2-utils`. Nothing leaves the namespaces, which are taken down at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.second_network.attacks import LONGEST_S, Episode, episodes
from benchmarks.second_network.flows import Flow, address, assemble, columns
from benchmarks.second_network.gateway import Gateway, Packets, open_uplink, wall_clock
from benchmarks.second_network.hosts import CLIENTS, HOSTS, Host, label_of
from benchmarks.second_network.servers import prepare, start_servers
from models.evaluate_attack import FLOW_COLUMNS, feature_names
from models.labels import BENIGN

PREFIX = "dayfold-2-"
IP = "/sbin/ip"
NEEDED = (
    IP, "/usr/bin/openssl", "/usr/bin/ssh-keygen", "/usr/bin/ssh", "/usr/sbin/sshd", "/usr/sbin/nginx",
    "/usr/sbin/dnsmasq", "/usr/sbin/vsftpd", "/usr/bin/redis-server", "/usr/bin/dig", "/usr/bin/nmap",
    "/usr/bin/hydra", "/usr/bin/slowhttptest", "/usr/bin/ab", "/usr/bin/timeout",
)  # fmt: skip
QUIET_S, TURN_S = 45.0, 150.0
MOST_OF_AN_ATTACK, MOST_BENIGN = 600, 4_000


class Network:
    """Namespaces and the processes in them, all of which `stack` takes down, the latest first.

    So processes end before their namespace goes, and what was set up is undone even where setting up fails.
    """

    def __init__(self, log: Path, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._log = stack.enter_context(log.open("ab"))
        self.uplinks: dict[int, Host] = {}
        for host in HOSTS:
            namespace = PREFIX + host.name
            subprocess.run([IP, "netns", "add", namespace], check=True)
            stack.callback(subprocess.run, [IP, "netns", "del", namespace], check=False)
            uplink = open_uplink(host, namespace)
            stack.callback(os.close, uplink)
            self.uplinks[uplink] = host

    def start(self, host: str, command: list[str]) -> None:
        """Run a command in a host's namespace."""
        process = subprocess.Popen(
            [IP, "netns", "exec", PREFIX + host, *command],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        self._stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def live(folder: Path, minutes: float, seed: int) -> Packets:
    """Let the network live for some minutes: quiet at first, then attacks in turns with pauses between."""
    rng = random.Random(seed)
    prepare(folder / "site", rng)
    (folder / "words").write_text("\n".join(f"pass{n}word" for n in range(14)))
    (folder / "users").write_text("admin\nroot\noracle\nguest\npi\ntest")
    began = time.monotonic()
    seconds = minutes * 60
    turns = 0
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with contextlib.ExitStack() as stack:
        network = Network(folder / "log", stack)
        gateway = Gateway(network.uplinks, wall_clock, rng)
        start_servers(folder / "site", network.start)
        for host in CLIENTS:
            words = [host.name, str(seed), str(seconds), str(folder / "site")]
            network.start(
                host.name, [sys.executable, "-m", "benchmarks.second_network.clients", *words]
            )
        waiting: list[tuple[float, Episode]] = []

        def over() -> bool:
            nonlocal turns
            now = time.monotonic() - began
            turn = int((now - QUIET_S) // TURN_S) + 1 if now > QUIET_S else 0
            if turn > turns and now + LONGEST_S < seconds:
                turns = turn
                waiting.extend(
                    (now + rng.uniform(0, TURN_S - LONGEST_S), episode)
                    for episode in episodes(folder, turn - 1)
                )
            for at, episode in [one for one in waiting if one[0] <= now]:
                waiting.remove((at, episode))
                bounded = ["/usr/bin/timeout", "-k", "5", str(LONGEST_S), *episode.command]
                network.start(episode.host, bounded)
            return now > seconds or stopped

        gateway.run_until(over)
    return gateway.packets()


def chosen(flows: list[Flow], seed: int) -> tuple[list[Flow], list[str]]:
    """The flows that are kept, in order of time, and their labels: a draw where a label has too many."""
    rng = np.random.default_rng(seed)
    labels = np.array([label_of(address(flow.source), address(flow.destination)) for flow in flows])
    kept: list[int] = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        most = MOST_BENIGN if label == BENIGN else MOST_OF_AN_ATTACK
        kept += rng.permutation(places)[:most].tolist()
    kept.sort(key=lambda place: flows[place].began_us)
    return [flows[place] for place in kept], labels[kept].tolist()


def table(flows: list[Flow], labels: list[str]) -> pa.Table:
    """The flows as `models.evaluate_attack.read_flows` reads them."""
    found = columns(flows)
    names = [feature_names()[place] for place in FLOW_COLUMNS]
    return pa.table(
        {
            "timestamp": pa.array([flow.began_us for flow in flows], pa.timestamp("us")),
            "source_ip": [address(flow.source) for flow in flows],
            "destination_ip": [address(flow.destination) for flow in flows],
            **{name: pa.array(np.array(found[name], np.float32)) for name in names},
            "label": labels,
        }
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, for network namespaces")
    if missing := [program for program in NEEDED if not Path(program).exists()]:
        parser.error(f"not installed: {', '.join(missing)}; --help names the packages of Debian")
    with tempfile.TemporaryDirectory(prefix="dayfold-second-network-") as folder:
        Path(folder).chmod(0o755)
        packets = live(Path(folder), options.minutes, options.seed)
        print((Path(folder) / "log").read_text(errors="replace")[-3000:], file=sys.stderr)
    flows = list(assemble(packets))
    kept, labels = chosen(flows, options.seed)
    pq.write_table(table(kept, labels), options.out, compression="zstd")
    print(f"{len(packets)} packets, {len(flows)} flows, {len(kept)} kept", Counter(labels))


if __name__ == "__main__":
    main()
