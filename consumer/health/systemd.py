"""The notification socket of systemd, if there is one.

Protocol: one datagram of `KEY=VALUE` lines to the socket named in `$NOTIFY_SOCKET`; a leading `@`
means the abstract name space (sd_notify(3)).
"""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Tell systemd something; does nothing when it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(message.encode(), target)
        except OSError:
            # A watcher that went away is no reason to stop serving.
            return
