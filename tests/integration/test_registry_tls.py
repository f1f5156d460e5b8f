"""The registry on an etcd that asks who we are: certificates, user and password."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consumer.errors import RegistryError
from consumer.registry.client import call_any, etcd3
from consumer.registry.local_etcd import LocalEtcd, ServerTls
from consumer.registry.options import EtcdOptions
from tests.integration.registry_support import (
    Operator,
    at,
    eventually,
    instances,
    options,
    registry,
)

PASSWORD = "correct horse battery staple"


class Authority:
    """A certificate authority that lives for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.cert = self._write(f"{name}.pem", builder.sign(self._key, hashes.SHA256()))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a server on loopback, or of a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        usage = x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        builder = self._builder(subject, key).add_extension(names, critical=False)
        cert = builder.add_extension(usage, critical=False).sign(self._key, hashes.SHA256())
        key_file = self._folder / f"{name}-key.pem"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return self._write(f"{name}.pem", cert), key_file

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
        )

    def _write(self, name: str, cert: x509.Certificate) -> Path:
        path = self._folder / name
        path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        return path


@dataclass(frozen=True)
class SecureSite:
    """An etcd that speaks only TLS with clients of its authority, and how to reach it."""

    server: LocalEtcd
    authority: Authority
    reach: EtcdOptions


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureSite]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "authority")
    cert, key = authority.issue("server")
    client_cert, client_key = authority.issue("client")
    with LocalEtcd(folder / "etcd", tls=ServerTls(cert, key, authority.cert)) as server:
        yield SecureSite(
            server,
            authority,
            EtcdOptions(
                (f"https://{server.endpoint}",),
                ca_cert=authority.cert,
                client_cert=client_cert,
                client_key=client_key,
                timeout_s=2.0,
            ),
        )


def test_it_registers_and_discovers_over_tls(site: SecureSite) -> None:
    subject = registry(site.reach)
    subject.start()
    try:
        with Operator(site.reach) as operator:
            operator.announce("d1", at("tcp://a:1"))
            eventually(lambda: instances(subject) == ["d1"])
            assert operator.value() is not None
    finally:
        subject.stop()


def test_a_client_without_certificate_is_turned_away(site: SecureSite) -> None:
    bare = replace(site.reach, client_cert=None, client_key=None)
    with pytest.raises(RegistryError, match="unavailable"):
        call_any(bare, lambda connection: connection.read("/x"))


def test_a_server_of_another_authority_is_not_trusted(site: SecureSite, tmp_path: Path) -> None:
    stranger = replace(site.reach, ca_cert=Authority(tmp_path, "stranger").cert)
    with pytest.raises(RegistryError, match="unavailable"):
        call_any(stranger, lambda connection: connection.read("/x"))


def test_a_certificate_that_vanishes_is_a_registry_error(site: SecureSite, tmp_path: Path) -> None:
    copy = tmp_path / "ca.pem"
    copy.write_bytes(site.authority.cert.read_bytes())
    reach = replace(site.reach, ca_cert=copy)
    copy.unlink()
    with pytest.raises(RegistryError, match=r"ca\.pem"):
        call_any(reach, lambda connection: connection.read("/x"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdOptions]:
    """An etcd with users: dayfold may use /ml-defender/ and nothing else."""
    rpc = etcd3.etcdrpc
    with LocalEtcd(tmp_path_factory.mktemp("users")) as server:
        reach = options(server)
        with Operator(reach) as operator:
            auth = rpc.AuthStub(operator.connection._client.channel)
            permission = rpc.AuthRoleGrantPermissionRequest(name="site")
            permission.perm.permType = 2  # authpb.Permission.READWRITE
            permission.perm.key = b"/ml-defender/"
            permission.perm.range_end = b"/ml-defender0"
            auth.RoleAdd(rpc.AuthRoleAddRequest(name="root"))
            auth.RoleAdd(rpc.AuthRoleAddRequest(name="site"))
            auth.RoleGrantPermission(permission)
            for user, role in (("root", "root"), ("dayfold", "site")):
                auth.UserAdd(rpc.AuthUserAddRequest(name=user, password=PASSWORD))
                auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=user, role=role))
            auth.AuthEnable(rpc.AuthEnableRequest())
        # Checking a password is slow on purpose.
        yield replace(reach, timeout_s=5.0)


def test_it_registers_and_discovers_with_user_and_password(guarded: EtcdOptions) -> None:
    reach = replace(guarded, user="dayfold", password=PASSWORD)
    subject = registry(reach)
    subject.start()
    try:
        with Operator(reach) as operator:
            operator.announce("d1", at("tcp://a:1"))
            eventually(lambda: instances(subject) == ["d1"])
            eventually(lambda: subject.facts().renewals >= 2)
            subject.stop()
            assert operator.value() is None
    finally:
        subject.stop()


@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_password_nothing_is_read(guarded: EtcdOptions, password: str | None) -> None:
    user = None if password is None else "dayfold"
    reach = replace(guarded, user=user, password=password)
    with pytest.raises(RegistryError, match="invalid argument: etcdserver") as caught:
        call_any(reach, lambda connection: connection.read("/ml-defender/"))
    assert PASSWORD not in str(caught.value)


def test_outside_its_prefix_a_user_is_refused(guarded: EtcdOptions) -> None:
    reach = replace(guarded, user="dayfold", password=PASSWORD)
    with pytest.raises(RegistryError, match="permission denied"):
        call_any(reach, lambda connection: connection.read("/secret/"))


def test_a_forbidden_prefix_is_named_in_the_facts(guarded: EtcdOptions) -> None:
    subject = registry(replace(guarded, user="dayfold", password=PASSWORD), prefix="/secret")
    subject.start()
    try:
        eventually(lambda: "permission denied" in (subject.facts().last_error or ""))
        assert not subject.facts().connected
    finally:
        subject.stop()
