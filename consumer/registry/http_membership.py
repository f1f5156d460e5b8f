"""Our own place on the HTTP registry: register, heartbeat, stored status, unregister."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

import structlog

from consumer.clock import Clock
from consumer.errors import RegistryError
from consumer.registry.base import JSON
from consumer.registry.entries import MalformedError, ServiceEntry, json_object, plain
from consumer.registry.http_client import Answer, AnswerError, HttpClient
from consumer.registry.http_directory import HttpDirectory

log = structlog.get_logger("registry")

REGISTER: Final = "/register"

# The call has the field, but our settings stay here: the name says nothing about this machine.
_CONFIG_PATH = "dayfold.toml"


@dataclass(frozen=True, slots=True)
class MembershipFacts:
    """See RegistryFacts."""

    registered_since_ns: int | None = None
    last_heartbeat_ns: int | None = None
    renewals: int = 0
    reregistrations: int = 0


class Membership:
    """Keeps one component registered on one server at a time. For one thread, except `facts`.

    Args:
        entry: who we are.
        directory: where answers that are no good are noted, and that we registered anew.
        capabilities: what we say that we can do.
        settings: what is stored of our settings beside the status.
        clock: stamps requests and facts.
    """

    def __init__(
        self,
        entry: ServiceEntry,
        directory: HttpDirectory,
        *,
        capabilities: Mapping[str, JSON],
        settings: Mapping[str, JSON],
        clock: Clock,
    ) -> None:
        self._entry = entry
        self._directory = directory
        self._capabilities = plain(capabilities)
        self._settings = plain(settings)
        self._clock = clock
        self._name = quote(entry.component, safe="")
        self._registered_at: str | None = None
        self._announced_at: str | None = None
        self._lock = threading.Lock()
        self._facts = MembershipFacts()

    @property
    def announced_at(self) -> str | None:
        """The server that is to be told when we leave; it may not know us."""
        return self._announced_at

    def facts(self) -> MembershipFacts:
        """Since when we are registered, and what became of it so far."""
        with self._lock:
            return self._facts

    def keep(self, client: HttpClient) -> Answer | None:
        """One heartbeat. Registers where we are not known; then its answer, which holds the key.

        Raises:
            RegistryError: we are not registered, or it is not certain that we are.
        """
        if self._registered_at == client.url and self._heartbeat(client):
            return None
        return self._register(client)

    def store(self, client: HttpClient, status: Mapping[str, JSON]) -> None:
        """Store our status and settings, for whoever asks. An answer that is no good is noted.

        Raises:
            RegistryError: the server does not answer.
        """
        path = f"/v1/config/{self._name}"
        body = self._entry.value({**status, "settings": self._settings}, self._clock.now_ns())
        try:
            answer = client.call("PUT", path, body)
        except AnswerError as error:
            self._directory.note(f"PUT {path}", error.reason)
        else:
            self._directory.note(f"PUT {path}", None if answer.status == 200 else refused(answer))

    def leave(self, client: HttpClient) -> None:
        """Unregister; what goes wrong is logged."""
        with self._lock:
            self._facts = replace(self._facts, registered_since_ns=None)
        try:
            answer = client.call("POST", "/unregister", _json({"component": self._entry.component}))
        except RegistryError as error:
            log.warning("could not deregister; the registry drops us in time", error=str(error))
            return
        if answer.status in {200, 404}:
            log.info("deregistered", registry=client.url)
        else:
            log.warning("could not deregister", registry=client.url, error=refused(answer))

    def _heartbeat(self, client: HttpClient) -> bool:
        body: dict[str, JSON] = {
            "timestamp": self._clock.now_ns() // 10**9,
            "status": "active",
        }
        if self._post(client, f"/v1/heartbeat/{self._name}", body, unknown=404) is None:
            self._registered_at = None
            return False
        now_ns = self._clock.now_ns()
        with self._lock:
            self._facts = replace(
                self._facts, last_heartbeat_ns=now_ns, renewals=self._facts.renewals + 1
            )
        return True

    def _register(self, client: HttpClient) -> Answer | None:
        body: dict[str, JSON] = {
            "component": self._entry.component,
            "config_path": _CONFIG_PATH,
            "timestamp": self._clock.now_ns() // 10**6,
            "status": "active",
            "capabilities": self._capabilities,
        }
        # Before the call: a server may know us although its answer never comes.
        self._announced_at = client.url
        answer = self._post(client, REGISTER, body)
        self._registered_at = client.url
        self._directory.registered()
        now_ns = self._clock.now_ns()
        with self._lock:
            again = self._facts.registered_since_ns is not None
            self._facts = replace(
                self._facts,
                registered_since_ns=now_ns,
                last_heartbeat_ns=now_ns,
                reregistrations=self._facts.reregistrations + again,
            )
        log.info("registered again" if again else "registered", registry=client.url)
        return answer

    def _post(
        self,
        client: HttpClient,
        path: str,
        body: Mapping[str, JSON],
        *,
        unknown: int | None = None,
    ) -> Answer | None:
        """What membership needs done. None if the answer's status is `unknown`.

        Raises:
            RegistryError: it was not done; an answer that is no good is noted, too.
        """
        call = f"POST {path}"
        try:
            answer = client.call("POST", path, _json(body))
            if answer.status == unknown:
                return None
            if answer.status != 200:
                raise AnswerError(client.url, call, refused(answer))
            try:
                json_object(answer.body)
            except MalformedError as error:
                raise AnswerError(client.url, call, str(error)) from None
        except AnswerError as error:
            self._directory.note(call, error.reason)
            raise
        self._directory.note(call, None)
        return answer


def refused(answer: Answer) -> str:
    """What is wrong with an answer of another status."""
    return f"refused with status {answer.status}"


def _json(body: Mapping[str, JSON]) -> bytes:
    return json.dumps(plain(body), separators=(",", ":")).encode()
