"""Whatever comes, in whatever order: what was synced is there exactly once, and nothing else is."""

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.journal import Journal, verify_day
from tests.journal_kit import DAY, NEXT_DAY, events, kill, make_journal, sealed_numbers

DAYS = [DAY, NEXT_DAY]
SEGMENT_BYTES = 400

numbers = st.lists(st.integers(0, 40), min_size=1, max_size=12)
days = st.sampled_from(DAYS)


@dataclass
class Append:
    day: date
    numbers: list[int]


@dataclass
class Sync: ...


@dataclass
class Seal:
    day: date


@dataclass
class Restart: ...


@dataclass
class Kill: ...


@dataclass
class PowerCut:
    """Of what was not synced, this part is still there, and then this garbage."""

    part: float
    garbage: bytes


Step = Append | Sync | Seal | Restart | Kill | PowerCut

steps: st.SearchStrategy[list[Step]] = st.lists(
    st.builds(Append, days, numbers)
    | st.builds(Append, days, numbers)
    | st.builds(Sync)
    | st.builds(Seal, days)
    | st.builds(Restart)
    | st.builds(Kill)
    | st.builds(PowerCut, st.floats(0, 1), st.binary(max_size=60)),
    max_size=14,
)


@dataclass
class World:
    """A journal, and what we know of it without asking."""

    root: Path
    journal: Journal = field(init=False)
    appended: dict[date, set[int]] = field(default_factory=lambda: {day: set() for day in DAYS})
    synced: dict[date, set[int]] = field(default_factory=lambda: {day: set() for day in DAYS})

    def start(self) -> None:
        self.journal = make_journal(self.root, segment_bytes=SEGMENT_BYTES, commit_interval_s=3600)
        self.journal.start()

    def note_synced(self) -> None:
        self.synced = {day: set(held) for day, held in self.appended.items()}

    def do(self, step: Step) -> None:
        match step:
            case Append(day, sent):
                done = self.journal.append(events(sent, day))
                assert done.added + done.duplicates == len(sent)
                self.appended[day] |= set(sent)
            case Sync():
                self.journal.sync()
                self.note_synced()
            case Seal(day):
                if self.appended[day] and self.journal.counts(day).events:
                    seal = self.journal.seal(day)
                    assert seal.events == self.journal.counts(day).events
                    self.synced[day] = set(self.appended[day])
            case Restart():
                self.journal.stop()
                self.note_synced()
                self.start()
            case Kill():
                kill(self.journal)
                self.start()
                for day in DAYS:
                    assert self.journal.counts(day).events == len(self.appended[day])
            case PowerCut(part, garbage):
                self.cut_power(part, garbage)

    def cut_power(self, part: float, garbage: bytes) -> None:
        states = list(self.journal._days.values())
        self.journal._commits.stop()
        self.journal._house.stop()
        unsynced = [
            (writer.path, writer.synced_bytes, writer.extent.bytes)
            for state in states
            for writer in state._writers()
            if writer.synced_bytes < writer.extent.bytes
        ]
        kill(self.journal)
        for path, synced, size in unsynced:
            kept = synced + round(part * (size - synced))
            path.write_bytes(path.read_bytes()[:kept] + garbage)
        self.start()
        for day in DAYS:
            # What the cut took may come again, and is then new.
            self.appended[day] = set(self.held(day))
            assert self.appended[day] >= self.synced[day]

    def held(self, day: date) -> list[int]:
        if not self.journal.counts(day).events:
            return []
        self.journal.seal(day)
        found = sealed_numbers(self.root, day)
        assert max(Counter(found).values()) == 1
        return found


@settings(max_examples=60)
@given(steps)
def test_what_was_synced_is_there_exactly_once(story: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "journal")
        world.start()
        for step in story:
            world.do(step)
        for day in DAYS:
            assert set(world.held(day)) == world.appended[day] >= world.synced[day]
        world.journal.stop()
        for day in world.journal.days():
            assert verify_day(world.root, day) == []
