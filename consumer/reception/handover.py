"""Between the drain thread and the intake: a queue with a limit in bytes and one lane per detector.

The drain thread must never wait, or the publisher starts to drop. So a full handover does not
block: it drops, and counts what it drops. The lane that holds the most bytes pays, with its newest
message; a detector that floods loses its own messages and nobody else's.
"""

from __future__ import annotations

import threading
from collections import deque

from consumer.reception.sources import Arrivals, Run

# What one queued message costs beyond its own bytes: two object headers and a queue slot. Counted,
# so that a flood of tiny messages stays within the limit as well.
MESSAGE_OVERHEAD = 128
# An event with its envelope. Within so much of the limit a handover is as good as full.
USUAL_BYTES = 4096
# Messages that are queued one by one are taken together again, up to so many.
RUN = 256


class Lane:
    """The queue of one detector. Made by `Handover.lane`; only its handover touches the rest.

    Attributes:
        dropped: messages of this lane that a full handover dropped.
        held_bytes: bytes queued, overhead included.
    """

    __slots__ = ("dropped", "held_bytes", "queue")

    def __init__(self) -> None:
        self.queue: deque[Run] = deque()
        self.held_bytes = 0
        self.dropped = 0


class Handover:
    """A byte-limited queue from the drain thread to the one thread that takes.

    Args:
        limit_bytes: the most that is held; each message counts its length and
            `MESSAGE_OVERHEAD`.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._filled: deque[Lane] = deque()
        self._changed = threading.Condition()
        self._waiting = False
        self._closed = False

    def lane(self) -> Lane:
        """A new lane."""
        return Lane()

    @property
    def held_bytes(self) -> int:
        """Bytes held now, overhead included."""
        return self._held

    @property
    def drained(self) -> bool:
        """Whether the handover is closed and empty."""
        with self._changed:
            return self._closed and not self._filled

    def put(self, lane: Lane, run: Run) -> None:
        """Queue messages, oldest first. Never waits; what does not fit is dropped and counted.

        The run belongs to the handover from then on.
        """
        size = _size(run)
        with self._changed:
            if self._held + size <= self._limit:
                self._append(lane, run, size)
            else:
                for place in range(len(run.messages)):
                    self._squeeze(lane, run.between(place, place + 1))
            if self._waiting and self._filled:
                self._changed.notify()

    def would_drop(self, lane: Lane) -> bool:
        """Whether the next message of this lane would be dropped, be it of a usual size."""
        if self._held + USUAL_BYTES <= self._limit:
            return False
        with self._changed:
            return all(lane.held_bytes >= other.held_bytes for other in self._filled)

    def drop(self, lane: Lane, count: int) -> None:
        """Count messages that were dropped because `would_drop` said so."""
        with self._changed:
            lane.dropped += count

    def take(self, limit: int, timeout_s: float) -> Arrivals:
        """Up to `limit` messages, in turns from every lane that has some.

        Waits up to `timeout_s` seconds for the first one; not at all once the handover is closed.

        Raises:
            ValueError: `limit` is less than 1.
        """
        if limit < 1:
            raise ValueError(f"limit is {limit}; take at least 1 message")
        with self._changed:
            if timeout_s > 0 and not self._filled and not self._closed:
                self._waiting = True
                self._changed.wait_for(lambda: self._filled or self._closed, timeout_s)
                self._waiting = False
            taken: list[Run] = []
            left = limit
            while self._filled and left:
                lane = self._filled.popleft()
                runs = self._pull(lane, max(1, left // (1 + len(self._filled))))
                left -= sum(len(run.messages) for run in runs)
                taken += runs
                if lane.queue:
                    self._filled.append(lane)
            return Arrivals(taken)

    def close(self) -> None:
        """No more will be put: wakes whoever waits in `take`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _append(self, lane: Lane, run: Run, size: int) -> None:
        if not run.messages:
            return
        if not lane.queue:
            self._filled.append(lane)
        last = lane.queue[-1] if lane.queue else None
        if last is not None and last.sealed == run.sealed and len(last.messages) < RUN:
            last.arrivals_ns.extend(run.arrivals_ns)
            last.messages.extend(run.messages)
        else:
            lane.queue.append(run)
        lane.held_bytes += size
        self._held += size

    def _squeeze(self, lane: Lane, one: Run) -> None:
        """Queue one message although it is tight, at the cost of the lane that holds the most."""
        size = _size(one)
        while self._held + size > self._limit:
            heaviest = max(self._filled, key=lambda held: held.held_bytes, default=lane)
            if heaviest.held_bytes <= lane.held_bytes + size:
                lane.dropped += 1
                return
            self._drop_newest(heaviest)
        self._append(lane, one, size)

    def _drop_newest(self, lane: Lane) -> None:
        newest = lane.queue[-1]
        newest.arrivals_ns.pop()
        self._release(lane, len(newest.messages.pop()) + MESSAGE_OVERHEAD)
        lane.dropped += 1
        if not newest.messages:
            lane.queue.pop()
        if not lane.queue:
            self._filled.remove(lane)

    def _pull(self, lane: Lane, limit: int) -> list[Run]:
        taken: list[Run] = []
        while lane.queue and limit:
            run = lane.queue.popleft()
            count = len(run.messages)
            if count > limit:
                lane.queue.appendleft(run.between(limit, count))
                run = run.between(0, limit)
            limit -= len(run.messages)
            taken.append(run)
            self._release(lane, _size(run))
        return taken

    def _release(self, lane: Lane, size: int) -> None:
        lane.held_bytes -= size
        self._held -= size


def _size(run: Run) -> int:
    return sum(map(len, run.messages)) + MESSAGE_OVERHEAD * len(run.messages)
