"""A process for the tests to kill: appends without end, and says how much of it is durable.

`python -m tests.faults.journal_child ROOT FIRST` appends the events FIRST, FIRST + 1, ... and prints
the number of events that are durable whenever it has grown.
"""

import sys
from pathlib import Path

from consumer.journal import Journal
from tests.journal_kit import DAY, events, make_journal

BATCH = 50
#: Some days are closed on the way, so that a kill may hit a seal.
SEAL_EVERY = 40 * BATCH


def main(root: Path, first: int) -> None:
    journal: Journal = make_journal(root, segment_bytes=150_000)
    journal.start()
    told = 0
    while True:
        journal.append(events(range(first, first + BATCH), size=200))
        first += BATCH
        if journal.appended_events % SEAL_EVERY == 0:
            journal.seal(DAY)
        if journal.durable_events > told:
            told = journal.durable_events
            print(told, flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
