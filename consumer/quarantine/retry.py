"""Messages are tried again in slices, so that there is time for other work between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from consumer.quarantine.quarantine import Quarantine, Quarantined, Round

log = structlog.get_logger("quarantine")

#: A slice of a retry ends after so many messages or bytes: some milliseconds of work.
SLICE_MESSAGES = 256
SLICE_BYTES = 1 << 20


class Retry:
    """Hands messages to `handle` again when asked, a slice at a step.

    For one thread. A message for which `handle` returns True is removed once its file is through;
    `settle` is called before, to make durable what was taken. Stopping in the middle loses nothing:
    what is not removed is handed over again.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        handle: Callable[[Quarantined], bool],
        *,
        settle: Callable[[], None],
    ) -> None:
        self._quarantine = quarantine
        self._handle = handle
        self._settle = settle
        self._waiting: list[str] = []
        self._round: Round | None = None

    def ask(self, reasons: Sequence[str]) -> None:
        """Have every message of some reasons that is there now tried, after what was asked before.

        Messages of a round under way are tried once more after it.
        """
        self._waiting += [reason for reason in reasons if reason not in self._waiting]

    def step(self) -> bool:
        """Do one slice, if there is anything to do; True while there is more.

        Raises QuarantineError if a file cannot be read, and what `handle` and `settle` raise.
        """
        if self._round is None:
            if not self._waiting:
                return False
            self._round = self._quarantine.begin(self._waiting.pop(0))
        round_ = self._round
        self._round = None  # whatever is raised ends this round
        more = self._quarantine.go_on(
            round_,
            self._handle,
            settle=self._settle,
            messages=SLICE_MESSAGES,
            size=SLICE_BYTES,
        )
        if more:
            self._round = round_
        elif round_.taken:
            log.info("quarantine retried", reason=round_.shelf.reason, admitted=round_.taken)
        return more or bool(self._waiting)
