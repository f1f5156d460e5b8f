"""Well-known services by port, with the words an analyst would use for them.

Ports as registered with IANA (Service Name and Transport Protocol Port Number Registry) plus the
ones that attackers and common products use by habit. A few words of explanation stand beside a
name, because the sentence encoder knows "remote login" better than it knows "22".
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Role: TypeAlias = Literal["login", "web", "name", "file", "mail", "data", "control", "other"]


class Service(NamedTuple):
    """A service.

    Attributes:
        text: name and explanation.
        role: what it is for. `login` services ask for a password and invite guessing; `web`
            services invite floods; looking up names is harmless however often it happens.
    """

    text: str
    role: Role


_LOGIN: dict[int, str] = {
    21: "FTP (file transfer login)",
    22: "SSH (secure shell remote login)",
    23: "Telnet (remote login)",
    512: "rexec (remote login)",
    513: "rlogin (remote login)",
    990: "FTPS (file transfer login)",
    2222: "SSH on an alternative port (remote login)",
    3389: "RDP (remote desktop login)",
    5900: "VNC (remote desktop login)",
    5985: "WinRM (remote administration)",
    5986: "WinRM over TLS (remote administration)",
}
_WEB: dict[int, str] = {
    80: "HTTP (web, not encrypted)",
    443: "HTTPS (encrypted web)",
    8000: "HTTP on an alternative port (web)",
    8008: "HTTP on an alternative port (web)",
    8080: "HTTP proxy (web)",
    8443: "HTTPS on an alternative port (encrypted web)",
    3128: "web proxy",
}
_NAME: dict[int, str] = {
    53: "DNS (name lookup)",
    123: "NTP (time synchronisation)",
    137: "NetBIOS name service",
    853: "DNS over TLS (name lookup)",
    5353: "multicast DNS (local name lookup)",
    5355: "LLMNR (local name lookup)",
    1900: "SSDP (device discovery)",
}
_FILE: dict[int, str] = {
    20: "FTP data (file transfer)",
    69: "TFTP (file transfer)",
    138: "NetBIOS datagrams (Windows file sharing)",
    139: "NetBIOS session (Windows file sharing)",
    445: "SMB (Windows file sharing)",
    548: "AFP (file sharing)",
    873: "rsync (file transfer)",
    2049: "NFS (file sharing)",
}
_MAIL: dict[int, str] = {
    25: "SMTP (mail delivery)",
    110: "POP3 (mail reading)",
    143: "IMAP (mail reading)",
    465: "SMTP over TLS (mail submission)",
    587: "SMTP submission (mail)",
    993: "IMAP over TLS (mail reading)",
    995: "POP3 over TLS (mail reading)",
}
_DATA: dict[int, str] = {
    1433: "Microsoft SQL Server (database)",
    1521: "Oracle (database)",
    3306: "MySQL (database)",
    5432: "PostgreSQL (database)",
    5984: "CouchDB (database)",
    6379: "Redis (database)",
    9200: "Elasticsearch (database)",
    11211: "memcached (cache)",
    27017: "MongoDB (database)",
}
_OTHER: dict[int, tuple[str, Role]] = {
    67: ("DHCP (address assignment)", "name"),
    68: ("DHCP (address assignment)", "name"),
    88: ("Kerberos (domain login)", "login"),
    102: ("S7 (industrial control)", "control"),
    111: ("RPC portmapper", "other"),
    135: ("Microsoft RPC (remote procedure call)", "other"),
    161: ("SNMP (network management)", "control"),
    162: ("SNMP traps (network management)", "control"),
    389: ("LDAP (directory)", "other"),
    500: ("IKE (VPN key exchange)", "other"),
    502: ("Modbus (industrial control)", "control"),
    514: ("syslog (logging)", "other"),
    631: ("IPP (printing)", "other"),
    636: ("LDAP over TLS (directory)", "other"),
    1080: ("SOCKS proxy", "other"),
    1194: ("OpenVPN", "other"),
    1723: ("PPTP (VPN)", "other"),
    1883: ("MQTT (sensors)", "control"),
    2379: ("etcd (registry)", "other"),
    3268: ("global catalogue (Active Directory)", "other"),
    4444: ("port 4444, common for reverse shells", "other"),
    4500: ("IPsec (VPN)", "other"),
    5060: ("SIP (telephony)", "other"),
    5222: ("XMPP (chat)", "other"),
    6667: ("IRC (chat, used by botnets)", "other"),
    9001: ("Tor relay port", "other"),
    9100: ("raw printing", "other"),
    51820: ("WireGuard (VPN)", "other"),
}


def _table() -> dict[int, Service]:
    table = {port: Service(text, role) for port, (text, role) in _OTHER.items()}
    families: tuple[tuple[Role, dict[int, str]], ...] = (
        ("login", _LOGIN),
        ("web", _WEB),
        ("name", _NAME),
        ("file", _FILE),
        ("mail", _MAIL),
        ("data", _DATA),
    )
    for role, ports in families:
        table.update({port: Service(text, role) for port, text in ports.items()})
    return table


SERVICES: dict[int, Service] = _table()
LOW_PORT = Service("an unusual low port", "other")
REGISTERED_PORT = Service("an uncommon service port", "other")
DYNAMIC_PORT = Service("a high dynamic port", "other")
NO_PORT = Service("no port", "other")
# Where browsers go.
BROWSED = frozenset((SERVICES[80].text, SERVICES[443].text))
UNNAMED = frozenset(service.text for service in (LOW_PORT, REGISTERED_PORT, DYNAMIC_PORT))


def service_of(port: int) -> Service:
    """The service of a destination port; for ports without a name, their range.

    Ranges are IANA's: system ports below 1,024, user ports below 49,152, dynamic ports above.
    """
    found = SERVICES.get(port)
    if found is not None:
        return found
    if port <= 0 or port > 65535:
        return NO_PORT
    if port < 1024:
        return LOW_PORT
    return REGISTERED_PORT if port < 49152 else DYNAMIC_PORT
