"""Two services that no package of Debian gives in so few words: a clock, and a sink for uploads.

python -m benchmarks.second_network.plain_servers time|sink ADDRESS
"""

from __future__ import annotations

import socketserver
import sys


class Clock(socketserver.BaseRequestHandler):
    """Answers each datagram with 48 bytes, as a time server does."""

    def handle(self) -> None:
        """One datagram."""
        data, answer = self.request
        answer.sendto(data[:1].ljust(48, b"\x24"), self.client_address)


class Sink(socketserver.BaseRequestHandler):
    """Reads a length in decimal and a line end, then as many bytes, and says when it has them."""

    def handle(self) -> None:
        """One connection, with any number of uploads."""
        file = self.request.makefile("rb")
        while line := file.readline(20):
            left = int(line)
            while left > 0 and (part := file.read1(left)):
                left -= len(part)
            self.request.sendall(b"ok" * (1 + len(line)))


def main() -> None:
    """Serve until killed."""
    kind, address = sys.argv[1:]
    server: socketserver.BaseServer
    if kind == "time":
        server = socketserver.ThreadingUDPServer((address, 123), Clock)
    else:
        server = socketserver.ThreadingTCPServer((address, 443), Sink)
    server.serve_forever()


if __name__ == "__main__":
    main()
