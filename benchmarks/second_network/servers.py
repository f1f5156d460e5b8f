"""The services of the second network: real programs of Debian, each in the namespace of its host."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.second_network.hosts import ATTACKERS, FILES, NAMES, SERVERS, SITES, STORE, WEB

Start = Callable[[str, list[str]], None]

PAGES, LARGEST_PAGE = 60, 60_000
DOWNLOADS = (300_000, 800_000, 1_500_000, 3_000_000)

NGINX = """daemon off; worker_processes 2; pid {folder}/nginx-{name}.pid; error_log stderr crit;
events {{ worker_connections 400; }}
http {{
  access_log off; client_body_temp_path {folder}/body-{name}; keepalive_timeout 20;
  client_max_body_size 50m;
  server {{
    listen {address}:80; listen {address}:443 ssl; root {folder}/pages;
    ssl_certificate {folder}/site.pem; ssl_certificate_key {folder}/site.key;
    location /form {{ client_body_in_single_buffer on; proxy_pass http://{address}:8080; }}
  }}
  server {{ listen {address}:8080; location / {{ return 200 "thank you"; }} }}
}}
"""
SSHD = """Port 22
ListenAddress {address}
HostKey {folder}/host.key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user.key.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication yes
MaxStartups 30:50:60
Subsystem sftp internal-sftp
"""
VSFTPD = """listen=YES
listen_address={address}
background=NO
anonymous_enable=YES
local_enable=YES
anon_root={folder}/pages
seccomp_sandbox=NO
write_enable=NO
pasv_min_port=40000
pasv_max_port=40400
max_login_fails=4
"""


def prepare(folder: Path, rng: random.Random) -> None:
    """Pages, keys and configuration, all below `folder`.

    Raises:
        FileNotFoundError: `openssl` or `ssh-keygen` is not installed.
        subprocess.CalledProcessError: one of them failed.
    """
    pages = folder / "pages"
    pages.mkdir(parents=True)
    pages.chmod(0o555)
    for number in range(PAGES):
        size = int(min(LARGEST_PAGE, 400 * rng.paretovariate(0.8)))
        (pages / f"page{number}.html").write_bytes(rng.randbytes(size))
    for number, size in enumerate(DOWNLOADS):
        (pages / f"download{number}.bin").write_bytes(rng.randbytes(size))
    (pages / "index.html").write_text("<h1>second network</h1>" * 40)
    for line in (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=second -out {folder}/site.pem -keyout {folder}/site.key",
        f"ssh-keygen -q -t ed25519 -N  -f {folder}/host.key",
        f"ssh-keygen -q -t ed25519 -N  -f {folder}/user.key",
    ):
        subprocess.run(line.split(" "), check=True, capture_output=True)
    for host in SERVERS:
        text = NGINX.format(folder=folder, name=host.name, address=host.address)
        (folder / f"nginx-{host.name}.conf").write_text(text)
    (folder / "sshd.conf").write_text(SSHD.format(folder=folder, address=FILES))
    (folder / "vsftpd.conf").write_text(VSFTPD.format(folder=folder, address=FILES))
    folder.chmod(0o755)


def start_servers(folder: Path, start: Start) -> None:
    """Start every service; `start(host, command)` runs a command in a host's namespace."""
    for host in SERVERS:
        if host.address == WEB or host.address in SITES:
            conf = str(folder / f"nginx-{host.name}.conf")
            start(host.name, ["/usr/sbin/nginx", "-c", conf, "-p", str(folder)])
    Path("/run/sshd").mkdir(exist_ok=True)
    start("files", ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd.conf")])
    start("files", ["/usr/sbin/vsftpd", str(folder / "vsftpd.conf")])
    names = [f"--address=/site{n}.example/{site}" for n, site in enumerate(SITES)]
    start(
        "names",
        ["/usr/sbin/dnsmasq", "-k", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=",
         f"--listen-address={NAMES}", "--bind-interfaces", f"--address=/web.example/{WEB}", *names],
    )  # fmt: skip
    start(
        "store",
        ["/usr/bin/redis-server", "--bind", STORE, "--save", "", "--protected-mode", "no",
         "--dir", str(folder)],
    )  # fmt: skip
    plain = [sys.executable, "-m", "benchmarks.second_network.plain_servers"]
    start("names", [*plain, "time", NAMES])
    for attacker in ATTACKERS:
        if attacker.name in ("master", "fence"):
            start(attacker.name, [*plain, "sink", attacker.address])
