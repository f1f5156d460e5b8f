"""Makes `tests/fixtures/data_folder_v1.tar.xz`, a data folder as this version leaves it.

`python -m tests.make_data_folder TARGET`. A fixture that was released is never made again: later
versions have to open what earlier ones wrote. A new format gets a new fixture beside the old ones.
"""

from __future__ import annotations

import argparse
import lzma
import tarfile
import tempfile
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from consumer.care.offline import OfflineDays
from consumer.demo.deployment import SAMPLE
from consumer.replay.flows import FlowRecording
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from tests.data_folder_kit import quarantine_of, settings_of

UTC = ZoneInfo("UTC")
DAYS = (date(2017, 7, 4), date(2017, 7, 5))
OPEN_DAY = date(2017, 7, 6)
#: Of 2017-07-04 this many are in revision 1, and all others came late.
ON_TIME = 20
EVENTS = 24
OPEN_EVENTS = 5


def flows(day: date, count: int) -> list[Admitted]:
    """Flows of a day, spread over all of it."""
    admission = Admission(UTC, event_clock=True)
    found = [event for _, event in FlowRecording(SAMPLE, node="node-01", days=frozenset({day}))]
    taken = []
    for event in found[:: len(found) // count][:count]:
        arrival_ns = event.event_timestamp.ToNanoseconds() + 1_000_000
        admitted = admission.admit(event.SerializeToString(), None, arrival_ns)
        assert isinstance(admitted, Admitted)
        taken.append(admitted)
    return taken


def make(folder: Path) -> Path:
    """Fill a data folder; gives it."""
    settings = settings_of(folder, models={})
    settings.data.dir.mkdir(mode=0o700)
    with OfflineDays(settings) as offline:
        for day in DAYS:
            events = flows(day, EVENTS)
            offline.journal.append(events[:ON_TIME])
            if day == DAYS[0]:
                offline.close(day)
            offline.journal.append(events[ON_TIME:])
            offline.close(day)
        offline.journal.append(flows(OPEN_DAY, OPEN_EVENTS))
        offline.coordinator.tick()
    kept = quarantine_of(settings)
    for reason in ("tampered", "unknown_key"):
        kept.put(
            reason,
            b"what was received",
            detector="detector-01",
            arrival_ns=1_499_169_600_000_000_000,
            detail="made for the tests",
            sealed=True,
        )
    kept.close()
    return settings.data.dir


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 1_499_385_600
    return None if "/scratch" in entry.name or "/run" in entry.name else entry


def main() -> None:
    """Make the fixture where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    target = parser.parse_args().target
    with tempfile.TemporaryDirectory() as folder:
        data = make(Path(folder))
        with (
            lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            archive.add(data, arcname="data", filter=_anonymous)


if __name__ == "__main__":
    main()
