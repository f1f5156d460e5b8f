"""A watch on etcd: one stream, followed by one thread.

Not the watcher of etcd3: its thread has no end, and starts streams again by itself without
knowing where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from consumer.registry.directory import Change

# The server ends the stream if its member loses the leader, instead of going silent.
_METADATA = (("hasleader", "true"),)


@dataclass(frozen=True, slots=True)
class WatchReport:
    """What a watch saw: changes, or its end (`ended` says why).

    Attributes:
        watch: who reports.
        changes: in the order of their revisions.
        ended: reason, if this is the last report.
        compacted: it ended because the revision it was to start from is compacted away.
        established: the server had accepted every prefix.
    """

    watch: Watch
    changes: tuple[Change, ...] = ()
    ended: str | None = None
    compacted: bool = False
    established: bool = False


class Watch:
    """Follows prefixes until it is closed or the stream ends.

    Args:
        rpc: the message and stub classes of etcd3.
        channel: gRPC channel to the member.
        metadata: token of the login, or None.
        starts: prefix and the first revision wanted.
        report: called on the watch's thread with each report; the last one has `ended`.
    """

    def __init__(
        self,
        rpc: Any,
        channel: Any,
        metadata: Sequence[tuple[str, str]] | None,
        starts: Mapping[str, int],
        report: Callable[[WatchReport], None],
    ) -> None:
        self._rpc = rpc
        self._starts = dict(starts)
        self._report = report
        self._pending = len(self._starts)
        self._closed = threading.Event()
        self._call = rpc.WatchStub(channel).Watch(
            self._requests(), metadata=(*(metadata or ()), *_METADATA)
        )
        self._thread = threading.Thread(target=self._follow, name="registry-watch", daemon=True)
        self._thread.start()

    def progress(self) -> dict[str, int]:
        """Prefix and the first revision not yet seen. Right once the watch has ended."""
        return dict(self._starts)

    def close(self) -> None:
        """End the stream and its thread."""
        self._closed.set()
        self._call.cancel()
        self._thread.join()

    def _requests(self) -> Iterator[Any]:
        for prefix, revision in list(self._starts.items()):
            begin = prefix.encode()
            yield self._rpc.WatchRequest(
                create_request=self._rpc.WatchCreateRequest(
                    key=begin,
                    range_end=begin[:-1] + bytes([begin[-1] + 1]),
                    start_revision=revision,
                )
            )
        # The stream lives as long as its requests have not ended.
        self._closed.wait()

    def _follow(self) -> None:
        reason, compacted = "the stream ended", False
        try:
            for response in self._call:
                if response.canceled or response.compact_revision:
                    compacted = response.compact_revision != 0
                    reason = response.cancel_reason or "cancelled by the server"
                    break
                if response.created:
                    self._pending -= 1
                changes = tuple(self._change(event) for event in response.events)
                if changes:
                    self._advance(changes)
                    self._report(WatchReport(self, changes))
        except grpc.RpcError as error:
            reason = f"{error.code().name.lower().replace('_', ' ')}: {error.details()}"
        finally:
            self._closed.set()
            self._call.cancel()
            self._report(
                WatchReport(self, ended=reason, compacted=compacted, established=self._pending == 0)
            )

    @staticmethod
    def _change(event: Any) -> Change:
        deleted = event.type == event.DELETE
        item = event.kv
        return Change(
            item.key.decode(errors="replace"), item.mod_revision, None if deleted else item.value
        )

    def _advance(self, changes: Sequence[Change]) -> None:
        for prefix in self._starts:
            seen = [change.revision for change in changes if change.key.startswith(prefix)]
            if seen:
                self._starts[prefix] = max(seen) + 1
