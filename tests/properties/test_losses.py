"""The loss ledger against a model that knows what the wire did, because it did it."""

import random
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from consumer.wire.epochs import EpochLosses
from consumer.wire.losses import LossLedger

_BASE = 10_000
_FAR = 1_000_000


@dataclass
class Wire:
    """Sends counters as a detector does, loses and repeats some, and keeps the true account.

    It stays within what the ledger promises to recognise: of a new epoch three messages arrive
    close together before anything else, at most two old counters come between live ones and none
    right before a restart, and a single loss is either at most 60 or far beyond the window, to
    where no other epoch was.
    """

    chance: random.Random
    arriving: list[int] = field(default_factory=list)
    account: list[EpochLosses] = field(default_factory=list)
    leaps: int = 0

    def epoch(self, base: int, lost_at_start: int, parts: list[tuple[int, int]]) -> None:
        """One run of a detector: parts of a loss (-1: a large one) and what follows it."""
        sent = base
        arrived: list[int] = []
        repeats = lost = 0
        for given_loss, run in [(lost_at_start, 70), *parts]:
            loss = given_loss
            if loss < 0:
                self.leaps += 1
                loss = _FAR * self.leaps - sent
            lost += loss
            sent += loss
            for counter in range(sent, sent + run):
                self.arriving.append(counter)
                arrived.append(counter)
                inside = len(arrived) > 3 and counter < sent + run - 1
                if inside and self.chance.random() < 0.1:
                    for _ in range(self.chance.randrange(1, 3)):
                        self.arriving.append(self.chance.choice(arrived))
                        repeats += 1
            sent += run
        number = len(self.account) + 1
        self.account.append(EpochLosses(number, base, sent - 1, len(arrived), lost, repeats))


parts = st.lists(
    st.tuples(st.integers(-1, 60), st.integers(1, 150)),
    max_size=8,
)
epochs = st.lists(st.tuples(st.integers(0, 40), parts), max_size=6)


@given(joined=parts, epochs=epochs, seed=st.integers(0, 1 << 32))
def test_losses_repeats_and_restarts_are_counted_exactly(
    joined: list[tuple[int, int]],
    epochs: list[tuple[int, list[tuple[int, int]]]],
    seed: int,
) -> None:
    wire = Wire(random.Random(seed))
    wire.epoch(_BASE, 0, joined)
    for lost_at_start, parts_of_epoch in epochs:
        wire.epoch(0, lost_at_start, parts_of_epoch)
    ledger = LossLedger()
    for counter in wire.arriving:
        ledger.note("detector", counter)
    facts = ledger.facts("detector")
    # A repeat right at a restart may be booked on either side of it; all else is exact per epoch.
    assert [replace(epoch, repeats=0) for epoch in facts.history] == [
        replace(epoch, repeats=0) for epoch in wire.account
    ]
    assert facts.epochs == len(wire.account)
    assert facts.received == sum(epoch.received for epoch in wire.account)
    assert facts.lost == sum(epoch.lost for epoch in wire.account)
    assert facts.repeats == sum(epoch.repeats for epoch in wire.account)


@given(
    count=st.integers(1, 3_000),
    lost=st.sets(st.integers(1, 3_000), max_size=200),
    reach=st.integers(1, 900),
    seed=st.integers(0, 1 << 32),
)
def test_messages_out_of_order_within_the_window_are_not_lost(
    count: int, lost: set[int], reach: int, seed: int
) -> None:
    chance = random.Random(seed)
    sent = [counter for counter in range(count) if counter not in lost]
    arriving = [0, *sorted(sent[1:], key=lambda counter: counter + chance.random() * reach)]
    ledger = LossLedger()
    for counter in [*arriving, count]:
        ledger.note("detector", counter)
    facts = ledger.facts("detector")
    assert facts.received == len(sent) + 1
    assert facts.lost == count - len(sent)
    assert (facts.repeats, facts.epochs) == (0, 1)


@given(
    live=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    replayed=st.lists(st.integers(0, 1_300), min_size=6, max_size=6),
    run=st.integers(1, 600),
)
def test_replayed_runs_between_live_messages_are_repeats_and_nothing_else(
    live: list[int], replayed: list[int], run: int
) -> None:
    first = 6_000
    ledger = LossLedger()
    for counter in range(first):
        ledger.note("detector", counter)
    for messages, start in zip(live, replayed, strict=False):
        for counter in range(start, start + run):
            ledger.note("detector", counter)
        for counter in range(first, first + messages):
            ledger.note("detector", counter)
        first += messages
    facts = ledger.facts("detector")
    assert (facts.received, facts.lost, facts.epochs) == (first, 0, 1)
    assert facts.repeats == run * len(live)


@given(st.lists(st.integers(0, (1 << 64) - 1) | st.integers(0, 300), max_size=300))
def test_the_account_adds_up_for_any_counters_at_all(counters: list[int]) -> None:
    ledger = LossLedger()
    for counter in counters:
        ledger.note("detector", counter)
    facts = ledger.facts("detector")
    assert facts.received + facts.repeats == len(counters)
    assert all(epoch.lost >= 0 for epoch in facts.history)
    assert LossLedger.from_json(ledger.to_json()).facts("detector") == facts


runs = st.lists(
    st.tuples(st.integers(0, 40) | st.integers(0, 20_000), st.integers(1, 100)), max_size=30
)


@given(runs, st.lists(st.integers(1, 5_000), min_size=1, max_size=10))
def test_counters_noted_together_count_as_noted_one_by_one(
    stretches: list[tuple[int, int]], sizes: list[int]
) -> None:
    counters = [n for first, count in stretches for n in range(first, first + count)]
    one_by_one, together = LossLedger(), LossLedger()
    for counter in counters:
        one_by_one.note("d", counter)
    at = turn = 0
    while at < len(counters):
        size = sizes[turn % len(sizes)]
        together.note_all("d", counters[at : at + size])
        at, turn = at + size, turn + 1
    assert together.to_json() == one_by_one.to_json()
