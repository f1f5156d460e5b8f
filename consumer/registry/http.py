"""The registry of deployments that run the older "etcd-server": plain HTTP, state in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random, SystemRandom
from typing import TypeAlias
from urllib.parse import quote

import structlog

from consumer.backoff import backoff
from consumer.clock import Clock, SystemClock
from consumer.errors import RegistryError
from consumer.registry.base import JSON, DetectorEntry, KeyEntry, Registry, RegistryFacts
from consumer.registry.entries import MalformedError, ServiceEntry, check_name, plain
from consumer.registry.http_answers import read_components, read_config, read_key_field
from consumer.registry.http_client import Answer, AnswerError, HttpClient
from consumer.registry.http_directory import HttpDirectory
from consumer.registry.http_membership import REGISTER, Membership, refused
from consumer.registry.options import HttpOptions, host_and_port

log = structlog.get_logger("registry")

# `stop` promises two seconds: we deregister within the first, the thread ends in the second.
_LEAVE_S = 1.0
_STOP_S = 1.8

_Taken: TypeAlias = tuple[bool, str | None]
# Takes an answer, or None for a 404. Gives whether it changed anything, and what is wrong with it.
_Take: TypeAlias = "Callable[[Answer | None], _Taken]"


class HttpRegistry(Registry):
    """Registers, sends heartbeats and asks for keys, components and detectors, on its own thread.

    With each heartbeat everything is asked for again and our status is stored, because this
    registry tells nobody of changes. A server that answers a heartbeat with 404 does not know us,
    most likely because it was restarted: we register again and take the key that it hands out, and
    the earlier ones stay listed. Whatever fails, the next server is tried; once all have failed
    there is a pause, longer each time and by chance, up to one heartbeat interval. Meanwhile
    detectors and keys stay as last known.

    The registry knows components by name only: two instances need two names.

    Args:
        options: how to reach it.
        entry: who we are.
        component: component whose channel the keys open.
        detectors: components whose stored configuration is asked for endpoints.
        capabilities: what we say that we can do.
        settings: what is stored of our settings; nothing secret.
        backoff_base_s: bound of the first pause after every server failed, seconds.
        clock: stamps requests and facts.
        random: jitter.

    Raises:
        ConfigurationError: a component's name that cannot be one.
    """

    def __init__(
        self,
        options: HttpOptions,
        entry: ServiceEntry,
        *,
        component: str = "ml-detector",
        detectors: Sequence[str] = (),
        capabilities: Mapping[str, JSON] | None = None,
        settings: Mapping[str, JSON] | None = None,
        backoff_base_s: float = 0.5,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__()
        self._options = options
        self._detectors = tuple(detectors) or (component,)
        for name in (component, *self._detectors):
            check_name("component", name)
        self._backoff_base_s = min(backoff_base_s, options.heartbeat_s)
        self._random = random or SystemRandom()
        self._directory = HttpDirectory(component)
        self._membership = Membership(
            entry,
            self._directory,
            capabilities=capabilities or {},
            settings=settings or {},
            clock=clock or SystemClock(),
        )
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._status: Mapping[str, JSON] = {}
        self._facts = RegistryFacts(kind="http", connected=False)
        self._failures = 0

    def start(self) -> None:
        """Begin; returns at once, whether the registry is there or not."""
        self._thread.start()

    def stop(self) -> None:
        """Deregister and end, within two seconds even if the registry hangs."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            log.warning("the registry thread did not end in time", seconds=_STOP_S)

    def publish_status(self, status: Mapping[str, JSON], *, urgent: bool = False) -> None:
        """Replace the status that is stored with the next heartbeat, or at once when `urgent`."""
        copy = plain(status)
        with self._lock:
            self._status = copy
        if urgent:
            self._wake.set()

    def detectors(self) -> list[DetectorEntry]:
        """The detectors whose endpoints the registry has told, by name."""
        return self._directory.detectors()

    def keys(self) -> list[KeyEntry]:
        """Every key that was handed out in this run, the newest last."""
        return self._directory.keys()

    def facts(self) -> RegistryFacts:
        """How the registry is now."""
        membership = self._membership.facts()
        malformed, reasons = self._directory.faults()
        with self._lock:
            return replace(
                self._facts,
                registered_since_ns=membership.registered_since_ns,
                last_heartbeat_ns=membership.last_heartbeat_ns,
                renewals=membership.renewals,
                reregistrations=membership.reregistrations,
                malformed=malformed,
                malformed_keys=reasons,
                components=self._directory.components(),
            )

    def _run(self) -> None:
        urls = self._options.urls
        turn = 0
        while not self._stopping.is_set():
            url = urls[turn % len(urls)]
            try:
                self._serve(self._client(url, cancelled=self._stopping.is_set))
            except RegistryError as error:
                self._note_failure(str(error))
            except Exception as error:  # noqa: BLE001 - membership must survive a fault of ours
                # Without its text, which may quote an answer, and so a key.
                self._note_failure(f"registry at {url}: {type(error).__name__}")
            turn += 1
            if self._failures % len(urls) == 0:
                self._stopping.wait(self._pause_s(self._failures // len(urls)))
        self._leave()

    def _pause_s(self, rounds: int) -> float:
        return backoff(
            max(0, rounds - 1),
            base_s=self._backoff_base_s,
            cap_s=self._options.heartbeat_s,
            random=self._random,
        )

    def _client(
        self, url: str, *, timeout_s: float | None = None, cancelled: Callable[[], bool]
    ) -> HttpClient:
        host, port = host_and_port(url)
        limit = self._options.timeout_s if timeout_s is None else timeout_s
        return HttpClient(url, host, port, timeout_s=limit, cancelled=cancelled)

    def _serve(self, client: HttpClient) -> None:
        while not self._stopping.is_set():
            # Real time, not the clock handed in: the server counts silence in real time.
            due = time.monotonic() + self._options.heartbeat_s
            self._beat(client)
            self._store_status(client)
            self._note_contact(client.url)
            while (left := due - time.monotonic()) > 0 and not self._stopping.is_set():
                if self._wake.wait(left) and not self._stopping.is_set():
                    self._store_status(client)

    def _store_status(self, client: HttpClient) -> None:
        self._wake.clear()
        with self._lock:
            status = self._status
        self._membership.store(client, status)

    def _beat(self, client: HttpClient) -> None:
        """One heartbeat, and everything that the registry can tell."""
        changed = False
        try:
            registered = self._membership.keep(client)
            if registered is not None:
                changed |= self._read(f"POST {REGISTER}", registered, self._take_encryption_key)
            changed |= self._ask(client, "/seed", self._take_seed)
            self._ask(client, "/components", self._take_components)
            for name in self._detectors:
                path = f"/config/{quote(name, safe='')}"
                changed |= self._ask(client, path, partial(self._take_config, name))
            with self._lock:
                self._facts = replace(self._facts, rereads=self._facts.rereads + 1)
        finally:
            if changed:
                self._notify()

    def _ask(self, client: HttpClient, path: str, take: _Take) -> bool:
        """Ask for something that we can do without. True if it changed anything.

        Raises:
            RegistryError: the registry does not answer. An answer that is no good is only noted.
        """
        call = f"GET {path}"
        try:
            answer = client.call("GET", path)
        except AnswerError as error:
            self._directory.note(call, error.reason)
            return False
        if answer.status not in {200, 404}:
            self._directory.note(call, refused(answer))
            return False
        return self._read(call, None if answer.status == 404 else answer, take)

    def _read(self, call: str, answer: Answer | None, take: _Take) -> bool:
        try:
            changed, fault = take(answer)
        except MalformedError as error:
            changed, fault = False, str(error)
        self._directory.note(call, fault)
        return changed

    def _take_encryption_key(self, answer: Answer | None) -> _Taken:
        key = "" if answer is None else read_key_field("encryption_key", answer.body)
        return self._directory.take_key("encryption_key", key), None

    def _take_seed(self, answer: Answer | None) -> _Taken:
        key = "" if answer is None else read_key_field("seed", answer.body)
        return self._directory.take_key("seed", key), None

    def _take_components(self, answer: Answer | None) -> _Taken:
        names, fault = ((), None) if answer is None else read_components(answer.body)
        self._directory.take_components(names)
        return False, fault

    def _take_config(self, name: str, answer: Answer | None) -> _Taken:
        entry, fault = (None, None) if answer is None else read_config(name, answer.body)
        return self._directory.take_detector(name, entry), fault

    def _leave(self) -> None:
        with self._lock:
            self._facts = replace(self._facts, connected=False, endpoint=None)
        url = self._membership.announced_at
        if url is not None:
            self._membership.leave(self._client(url, timeout_s=_LEAVE_S, cancelled=lambda: False))

    def _note_contact(self, url: str) -> None:
        self._failures = 0
        with self._lock:
            news = not self._facts.connected
            self._facts = replace(self._facts, connected=True, endpoint=url, last_error=None)
        if news:
            log.info("registry connected", endpoint=url)

    def _note_failure(self, text: str) -> None:
        self._failures += 1
        if self._stopping.is_set():
            return
        with self._lock:
            news = self._facts.last_error is None
            self._facts = replace(self._facts, connected=False, endpoint=None, last_error=text)
        if news:
            log.warning("registry lost; retrying", error=text)
        else:
            log.debug("registry still lost", error=text, failures=self._failures)
