from pathlib import Path
from typing import Any

import pytest

from consumer.errors import ConfigurationError
from consumer.registry.entries import ServiceEntry
from consumer.registry.etcd import EtcdRegistry
from consumer.registry.options import EtcdOptions


def pem(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("pem")
    return path


def test_a_scheme_before_an_endpoint_is_taken_off(tmp_path: Path) -> None:
    assert EtcdOptions(("http://a:1", "b:2")).endpoints == ("a:1", "b:2")
    secure = EtcdOptions(("https://[::1]:2379",), ca_cert=pem(tmp_path, "ca"))
    assert secure.endpoints == ("[::1]:2379",)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"endpoints": ()}, "endpoints is empty"),
        ({"endpoints": ("host",)}, "'host' is not host:port"),
        ({"endpoints": (":2379",)}, "is not host:port"),
        ({"endpoints": ("ftp://a:1",)}, "is not host:port"),
        ({"endpoints": ("https://a:1",)}, "set ca_cert"),
        ({"timeout_s": 0}, "timeout_s = 0"),
        ({"client_cert": Path("/c")}, "client_cert and client_key belong together"),
        ({"client_cert": Path("/c"), "client_key": Path("/k")}, "client_cert needs ca_cert"),
        ({"ca_cert": Path("/nowhere/ca.pem")}, "/nowhere/ca.pem: No such file"),
        ({"user": "u"}, "user and password belong together"),
        ({"password": "p"}, "user and password belong together"),
        ({"endpoints": ("10.0.0.5:2379",), "user": "u", "password": "p"}, "sent in clear"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        EtcdOptions(**options)


def test_an_endpoint_without_tls_does_not_go_with_a_ca(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="use https"):
        EtcdOptions(("http://a:1",), ca_cert=pem(tmp_path, "ca"))


def test_every_fault_has_its_own_line() -> None:
    with pytest.raises(ConfigurationError) as caught:
        EtcdOptions(("a",), user="u", timeout_s=-1)
    assert len(str(caught.value).splitlines()) == 3


def test_a_password_may_go_to_loopback_in_clear() -> None:
    assert EtcdOptions(("127.0.0.1:1", "localhost:2"), user="u", password="p").user == "u"


def test_the_password_is_not_in_the_repr() -> None:
    assert "hidden" not in repr(EtcdOptions(user="u", password="hidden"))


@pytest.mark.parametrize(("ttl_s", "heartbeat_s"), [(60, 31), (60, 0), (0, 0.1)])
def test_a_heartbeat_that_cannot_keep_the_lease_is_refused(ttl_s: int, heartbeat_s: float) -> None:
    entry = ServiceEntry("dayfold", "one", "0.1.0", "box", 1, 0)
    with pytest.raises(ConfigurationError, match="at most half"):
        EtcdRegistry(EtcdOptions(), entry, lease_ttl_s=ttl_s, heartbeat_s=heartbeat_s)
