"""The company that an event keeps: how often its like was seen shortly before.

One login is a login; the fortieth within minutes from one host to one server is password guessing,
and an analyst says so. Counts run over the clock's ten-minute bucket of the event and the one
before it, in the journal's order, so they are what was known when the event happened. They are
given in steps, so that equal behaviours still read equal.

Memory is bounded: two buckets of four tables, each with a limited number of entries. Where a limit
is met, counts are too low, never too high. An event that is older than both buckets came late and
is described on its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

BUCKET_NS = 600_000_000_000
# Below the first step there is nothing worth a word.
STEPS = (8, 40, 200)
MOST_ENTRIES = 50_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Company:
    """Steps from 0 (fewer than 8) over 1 (from 8) and 2 (from 40) to 3 (200 or more).

    Attributes:
        same: connections from the same source to the same port of the same host.
        ports: different ports that the source tried on this host.
        hosts: different hosts that the source tried on this port.
        sources: different sources of connections to this port of this host.
    """

    same: int = 0
    ports: int = 0
    hosts: int = 0
    sources: int = 0


ALONE = Company()


@dataclass(slots=True)
class _Counts(Generic[K]):
    """How often each key was seen, for a limited number of keys."""

    limit: int
    seen: dict[K, int] = field(default_factory=dict)

    def add(self, key: K) -> int:
        count = self.seen.get(key, 0) + 1
        if count > 1 or len(self.seen) < self.limit:
            self.seen[key] = count
        return count


@dataclass(slots=True)
class _Distinct(Generic[K, V]):
    """How many different values each key was seen with, for a limited number of pairs."""

    limit: int
    seen: dict[K, set[V]] = field(default_factory=dict)
    pairs: int = 0

    def add(self, key: K, value: V) -> int:
        values = self.seen.get(key)
        if values is None:
            if self.pairs >= self.limit:
                return 1
            values = self.seen[key] = set()
        # A set that reached the last step has nothing left to say.
        if value not in values and len(values) < STEPS[-1] and self.pairs < self.limit:
            values.add(value)
            self.pairs += 1
        return len(values)

    def count(self, key: K) -> int:
        values = self.seen.get(key)
        return 0 if values is None else len(values)


class _Bucket:
    """Counts of ten minutes."""

    __slots__ = ("hosts", "number", "ports", "same", "sources")

    def __init__(self, number: int, limit: int) -> None:
        self.number = number
        self.same: _Counts[tuple[str, str, int]] = _Counts(limit)
        self.ports: _Distinct[tuple[str, str], int] = _Distinct(limit)
        self.hosts: _Distinct[tuple[str, int], str] = _Distinct(limit)
        self.sources: _Distinct[tuple[str, int], str] = _Distinct(limit)


class CompanyBook:
    """Keeps the counts of one day, for events in the journal's order."""

    def __init__(self, *, most_entries: int = MOST_ENTRIES) -> None:
        self._limit = most_entries
        self._now = _Bucket(-1, most_entries)
        self._before = _Bucket(-2, most_entries)
        self._known: dict[tuple[int, int, int, int], Company] = {}

    def note(self, time_ns: int, source: str, destination: str, port: int) -> Company:
        """Count one connection and say what company it is in, itself included.

        Of different ports, hosts and sources, the larger number of the two buckets counts.
        """
        now, before = self._now, self._before
        number = time_ns // BUCKET_NS
        if number != now.number:
            if number > now.number:
                before = now if number == now.number + 1 else _Bucket(number - 1, self._limit)
                now = _Bucket(number, self._limit)
                self._now, self._before = now, before
            elif number != before.number:
                return ALONE
            else:
                now, before = before, _Bucket(number - 1, 0)
        whole, pair = (source, destination, port), (source, destination)
        reach, target = (source, port), (destination, port)
        same = now.same.add(whole)
        if same == 1:
            ports, hosts = now.ports.add(pair, port), now.hosts.add(reach, destination)
            sources = now.sources.add(target, source)
        else:
            # Seen in this bucket already: nothing is new in the other tables.
            ports, hosts = now.ports.count(pair), now.hosts.count(reach)
            sources = now.sources.count(target)
        same += before.same.seen.get(whole, 0)
        ports = max(ports, before.ports.count(pair))
        hosts = max(hosts, before.hosts.count(reach))
        sources = max(sources, before.sources.count(target))
        if max(same, ports, hosts, sources) < STEPS[0]:
            return ALONE
        steps = (
            bisect_right(STEPS, same),
            bisect_right(STEPS, ports),
            bisect_right(STEPS, hosts),
            bisect_right(STEPS, sources),
        )
        known = self._known.get(steps)
        if known is None:
            known = self._known[steps] = Company(*steps)
        return known
