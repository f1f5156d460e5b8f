"""Calls to one etcd member, and to any of several. Every error comes out as RegistryError."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from consumer.errors import RegistryError
from consumer.registry.directory import Change
from consumer.registry.etcd_compat import load_etcd3
from consumer.registry.options import EtcdOptions
from consumer.registry.watch import Watch, WatchReport

T = TypeVar("T")

etcd3: Any = load_etcd3()

_CHANNEL_OPTIONS = (
    # Without it a new channel inherits the reconnect pause of an earlier one to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    # etcd is a neighbour: an http_proxy of the machine is not the way to it.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
)


class LeaseLostError(RegistryError):
    """The lease that a value was to be written under does not exist any more."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Every key below a prefix, as of a revision of the store."""

    revision: int
    items: tuple[Change, ...]


@contextmanager
def _mapped(endpoint: str, action: str) -> Iterator[None]:
    """Turn whatever the client library raises into RegistryError; the only place that does."""
    try:
        yield
    except grpc.RpcError as error:
        raise _registry_error(endpoint, action, error) from None
    except etcd3.Etcd3Exception as error:
        # etcd3 drops the server's words, but leaves the error that had them as the context.
        cause = error.__context__
        if isinstance(cause, grpc.RpcError):
            raise _registry_error(endpoint, action, cause) from None
        raise RegistryError(f"etcd at {endpoint}: {action}: {error!r}") from None
    # ValueError: the channel was closed meanwhile. OSError: a certificate file cannot be read.
    except (ValueError, OSError) as error:
        raise RegistryError(f"etcd at {endpoint}: {action}: {error}") from None


def _registry_error(endpoint: str, action: str, error: Any) -> RegistryError:
    code, details = error.code(), error.details()
    text = f"etcd at {endpoint}: {action}: {code.name.lower().replace('_', ' ')}: {details}"
    if code is grpc.StatusCode.NOT_FOUND and "lease not found" in details:
        return LeaseLostError(text)
    return RegistryError(text)


class EtcdConnection:
    """One channel to one member. Nothing is sent before the first call.

    Every call ends within `options.timeout_s` and raises RegistryError if it fails. `close` may be
    called from another thread and ends a call that is under way.
    """

    def __init__(self, endpoint: str, options: EtcdOptions) -> None:
        self.endpoint = endpoint
        self._options = options
        host, _, port = endpoint.rpartition(":")
        with _mapped(endpoint, "connect"):
            self._client = etcd3.client(
                host=host,
                port=int(port),
                ca_cert=_text(options.ca_cert),
                cert_cert=_text(options.client_cert),
                cert_key=_text(options.client_key),
                timeout=options.timeout_s,
                grpc_options=_CHANNEL_OPTIONS,
            )

    def __enter__(self) -> Self:
        """Log in."""
        try:
            self.login()
        except RegistryError:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the channel."""
        self.close()

    def close(self) -> None:
        """End every call and the channel."""
        self._client.close()

    def login(self) -> None:
        """Exchange user and password, if there are any, for a token.

        Not left to etcd3: it ties the token to the channel's TLS, and logs in before there is
        anything that could be closed from outside.
        """
        if self._options.user is None:
            return
        rpc = etcd3.etcdrpc
        request = rpc.AuthenticateRequest(name=self._options.user, password=self._options.password)
        with _mapped(self.endpoint, f"log in as {self._options.user}"):
            stub = rpc.AuthStub(self._client.channel)
            token = stub.Authenticate(request, self._options.timeout_s).token
        self._client.metadata = (("token", token),)

    def put(self, key: str, value: bytes, lease_id: int = 0) -> None:
        """Write a key, under a lease if one is given.

        Raises:
            LeaseLostError: the lease does not exist.
        """
        with _mapped(self.endpoint, f"write {key}"):
            self._client.put(key, value, lease=lease_id)

    def delete(self, key: str) -> bool:
        """Delete a key. False if it was not there."""
        with _mapped(self.endpoint, f"delete {key}"):
            return bool(self._client.delete(key))

    def read(self, prefix: str) -> Listing:
        """Every key below `prefix`."""
        with _mapped(self.endpoint, f"list {prefix}"):
            response = self._client.get_prefix_response(prefix)
        items = tuple(
            Change(item.key.decode(errors="replace"), item.mod_revision, item.value)
            for item in response.kvs
        )
        return Listing(response.header.revision, items)

    def grant(self, lease_id: int, ttl_s: int) -> None:
        """Make a lease of a given id."""
        with _mapped(self.endpoint, "grant a lease"):
            self._client.lease(ttl_s, lease_id)

    def refresh(self, lease_id: int) -> int:
        """Refresh a lease. Its time to live in seconds; 0 if it does not exist any more."""
        with _mapped(self.endpoint, "refresh the lease"):
            return max((answer.TTL for answer in self._client.refresh_lease(lease_id)), default=0)

    def revoke(self, lease_id: int) -> None:
        """Revoke a lease: the keys under it go with it."""
        with _mapped(self.endpoint, "revoke the lease"):
            self._client.revoke_lease(lease_id)

    def watch(self, starts: Mapping[str, int], report: Callable[[WatchReport], None]) -> Watch:
        """Follow prefixes, each from a revision on. `report` runs on the watch's own thread."""
        with _mapped(self.endpoint, "watch"):
            return Watch(etcd3.etcdrpc, self._client.channel, self._client.metadata, starts, report)


def call_any(
    options: EtcdOptions,
    action: Callable[[EtcdConnection], T],
    *,
    budget_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Do something on the first member that lets us.

    Args:
        options: how to reach them.
        action: what to do; it may run on several members, so it must bear being repeated.
        budget_s: limit for all members together, seconds.
        clock: seconds that never run backwards.

    Raises:
        RegistryError: no member did it; the error is the last one's.
    """
    end = None if budget_s is None else clock() + budget_s
    failure: RegistryError | None = None
    for turn, endpoint in enumerate(options.endpoints):
        mine = options
        if end is not None:
            left = (end - clock()) / (len(options.endpoints) - turn)
            mine = replace(options, timeout_s=max(left, 0.01))
        try:
            with EtcdConnection(endpoint, mine) as connection:
                return action(connection)
        except RegistryError as error:
            failure = error
    assert failure is not None  # noqa: S101 - options have at least one endpoint
    raise failure


def _text(path: object) -> str | None:
    return None if path is None else str(path)
