"""Plays rounds on an attacked site, ends them, and compares what is there with what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from functools import partial

from consumer.care.verify import verify_data
from consumer.journal import open_chunk
from consumer.settings import INDEX_NAMES, load
from index.catalogue import Catalogue
from tests.faults.attacked_site import UTC, Events, Round, Site


def play(site: Site, played: Sequence[Round], now: Round) -> None:
    """One day: receive, refuse, take back from quarantine, close the day before, close it again."""
    before = played[-1] if played else None
    twice = dict(list(now.events.items())[:1])
    refused = site.seal(now.no_event)

    def send() -> None:
        site.publish(now.events)
        site.publish(twice)

    site.reach(f"the events of {now.day}", lambda: site.durable(now.events), send)
    site.reach(
        f"the refused message of {now.day}",
        lambda: refused in {m.message for m in site.quarantine("schema")},
        lambda: site.publish_sealed(refused),
    )
    site.reach(
        f"the message without a key of {now.day}",
        lambda: bool(site.quarantine("unknown_key") + site.quarantine("tampered")),
        lambda: site.publish(now.hidden, now.key),
    )
    # A power cut may bring back a message that was taken a moment ago: its key must still be there.
    site.set_keys((now.key,) if before is None else (before.key, now.key))

    def read_again() -> None:
        # It may have gone in a power cut before the quarantine was synced.
        if site.quarantine("unknown_key") + site.quarantine("tampered"):
            site.reread()
        else:
            site.publish(now.hidden, now.key)

    site.reach(
        f"the message with its key of {now.day}",
        lambda: site.durable(now.hidden) and not site.quarantine("unknown_key"),
        read_again,
    )
    if before is not None:
        count = len(before.events) + len(before.hidden)
        site.reach(f"{before.day} closed", lambda: site.committed(before.day, count))
        site.reach(
            f"a late event of {before.day}",
            lambda: site.durable(now.late),
            lambda: site.publish(now.late),
        )
        site.reach(f"{before.day} closed again", lambda: site.committed(before.day, count + 1))

    def refuse_again() -> None:
        # It may have gone in a power cut before the quarantine was synced.
        if refused not in {m.message for m in site.quarantine("schema")}:
            site.publish_sealed(refused)

    site.reach(
        f"the refused message of {now.day} on the disk", lambda: site.kept(refused), refuse_again
    )


def finish(site: Site, played: Sequence[Round]) -> None:
    """Send everything once more, close every day, and stop well."""
    for each in played:
        site.publish(each.events | each.late | each.hidden)
    expected = sent(played)
    for day, events in expected.items():
        site.reach(
            f"{day} committed",
            partial(site.committed, day, len(events)),
            partial(site.close, day),
        )
    assert site.stop() == 0, site.log()


def sent(played: Sequence[Round]) -> dict[date, Events]:
    """Every event that was sent, by the day that it belongs to."""
    days: dict[date, Events] = {}
    for each in played:
        days.setdefault(each.day, {}).update(each.events | each.hidden)
        if each.late:
            days[played[each.number - 1].day].update(each.late)
    return days


def check(site: Site, played: Sequence[Round]) -> None:
    """Conservation: all that was sent is in its day once and whole in every index; nothing else."""
    expected = sent(played)
    assert site.journal().keys() == {str(day) for day in expected}, site.journal().keys()
    for day, events in expected.items():
        chunk = open_chunk(site.data / "journal", day, zone=UTC)
        payloads = [record.payload for batch in chunk.batches(100) for record in batch]
        assert Counter(payloads) == Counter(events.values()), day
    with Catalogue.open(site.data / "catalogue.sqlite", read_only=True) as catalogue:
        for day, events in expected.items():
            known = catalogue.chunk(day)
            assert known is not None, day
            sealed = open_chunk(site.data / "journal", day, zone=UTC).revision
            assert known.revision == sealed, (day, known.revision, sealed)
            for name in INDEX_NAMES:
                state = known.indices[name]
                assert (state.state, state.revision) == ("committed", known.revision), (day, name)
                assert state.coverage["events"] == len(events), (day, name)
                facts = catalogue.facts_of(name, day)
                assert len(facts) == state.rows, (day, name)
            told = catalogue.facts_of("semantic", day)
            assert sum(row.weight for row in told if row.kind != "day") == len(events), day
    refused = {message.message for message in site.quarantine("schema")}
    assert len(refused) == len(played), f"{len(refused)} messages refused, not {len(played)}"
    waiting = site.quarantine("unknown_key") + site.quarantine("tampered")
    assert not waiting, waiting
    found = faults(site)
    assert not found, found


def faults(site: Site) -> list[dict[str, object]]:
    """What `verify --deep` finds; that the encoders are those of the tests is none."""
    found = verify_data(load(site.config), deep=True)["faults"]
    return [fault for fault in found if not fault["what"].startswith("model")]
