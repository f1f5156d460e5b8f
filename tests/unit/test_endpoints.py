from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import ConfigurationError
from consumer.reception.endpoints import Endpoint, check_endpoint, connectable, has_literal_ipv6

ANY_IPV4 = str(IPv4Address(0))
KEY = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"


@pytest.mark.parametrize(
    ("address", "host", "expected"),
    [
        ("tcp://*:5572", "10.0.0.5", "tcp://10.0.0.5:5572"),
        ("tcp://0.0.0.0:5572", "sensor-3.ward.example", "tcp://sensor-3.ward.example:5572"),
        ("tcp://[::]:5572", "fd00::5", "tcp://[fd00::5]:5572"),
        ("tcp://:::5572", "[FD00::5]", "tcp://[fd00::5]:5572"),
        ("tcp://*:5572", " 10.0.0.5 ", "tcp://10.0.0.5:5572"),
        ("tcp://10.0.0.7:5572", "10.0.0.5", "tcp://10.0.0.7:5572"),
        ("tcp://Sensor_1:05572", "", "tcp://sensor_1:5572"),
        ("tcp://[FD00:0::7]:5572", "", "tcp://[fd00::7]:5572"),
        ("tcp://fd00::7:5572", "", "tcp://[fd00::7]:5572"),
        ("tcp://[fe80::1%eth0]:5572", "", "tcp://[fe80::1%eth0]:5572"),
    ],
)
def test_a_wildcard_becomes_the_advertised_host_and_others_stay(
    address: str, host: str, expected: str
) -> None:
    assert connectable(address, host) == expected


@pytest.mark.parametrize("host", ["", " ", "*", ANY_IPV4, "::", "[::]"])
def test_a_wildcard_without_a_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="advertise a host"):
        connectable("tcp://*:5572", host)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("", "not tcp://HOST:PORT"),
        ("10.0.0.5:5572", "not tcp://HOST:PORT"),
        ("ipc:///run/detector", "not tcp://HOST:PORT"),
        ("tcp://10.0.0.5", "not tcp://HOST:PORT"),
        ("tcp://10.0.0.5:", "a number from 1 to 65535"),
        ("tcp://10.0.0.5:*", "a number from 1 to 65535"),
        ("tcp://10.0.0.5:0", "a number from 1 to 65535"),
        ("tcp://10.0.0.5:65536", "a number from 1 to 65535"),
        ("tcp://10.0.0.5:٥٥٧٢", "a number from 1 to 65535"),
        ("tcp://10.0.0.5:5572/path", "a number from 1 to 65535"),
        ("tcp://eth0;10.0.0.5:5572", "neither a name nor an IP address"),
        ("tcp://user@host:5572", "neither a name nor an IP address"),
        ("tcp://two words:5572", "neither a name nor an IP address"),
        ("tcp://[fd00::g]:5572", "not an IPv6 address"),
    ],
)
def test_what_is_not_a_tcp_address_is_refused(address: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        connectable(address, "10.0.0.5")


@given(address=st.text(), host=st.text())
def test_any_text_is_either_connectable_or_refused(address: str, host: str) -> None:
    try:
        result = connectable(f"tcp://{address}", host)
    except ConfigurationError:
        return
    assert connectable(result, "") == result


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("tcp://[fd00::7]:5572", True),
        ("tcp://10.0.0.5:5572", False),
        ("tcp://sensor:5572", False),
    ],
)
def test_a_literal_ipv6_host_is_told_from_names_and_ipv4(address: str, literal: bool) -> None:
    assert has_literal_ipv6(address) is literal


def test_a_good_endpoint_is_accepted() -> None:
    check_endpoint(Endpoint("detector-01", "tcp://10.0.0.5:5572", KEY))


@pytest.mark.parametrize(
    ("endpoint", "complaint"),
    [
        (Endpoint("", "tcp://10.0.0.5:5572"), "has no name"),
        (Endpoint("a", "tcp://*:5572"), "advertise a host"),
        (Endpoint("a", "tcp://10.0.0.5:5572", ""), "has 0 characters"),
        (Endpoint("a", "tcp://10.0.0.5:5572", KEY[:39] + " "), "not a CURVE key"),
        (Endpoint("a", "tcp://10.0.0.5:5572", KEY + "x"), "has 41 characters"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused(endpoint: Endpoint, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        check_endpoint(endpoint)
