"""What happens in the catalogue when an index is made anew; each step within one transaction."""

import sqlite3

from index.chunk_table import read_days, read_record, read_states, write_state
from index.chunks import IndexState
from index.edition_table import (
    Edition,
    delete_edition,
    delete_kept,
    edition_name,
    in_the_making,
    read_editions,
    read_kept,
    serving,
    write_edition,
    write_kept,
)
from index.store import ModelIdentity, ModelLike


def begin(connection: sqlite3.Connection, index: str, model: ModelLike) -> None:
    """Record the next edition of an index; every sealed day of it is pending then.

    One that was begun with another model is given up. Beginning the one that is begun already
    changes nothing. An edition that is kept becomes the next one with the days that it has.
    """
    name = edition_name(index, model)
    editions = read_editions(connection)
    begun = in_the_making(editions, index)
    if begun is not None and begun.name == name:
        return
    if begun is not None:
        delete_edition(connection, begun.name)
    if name == serving(editions, index):
        return
    identity = ModelIdentity(model.name, model.sha256)
    write_edition(connection, Edition(name, index, "next", identity))
    for day in read_days(connection):
        record = read_record(connection, day)
        if record is not None and record.revision > 0:
            has_it = read_kept(connection, day).get(index) == name
            state = read_states(connection, day)[index] if has_it else IndexState()
            write_state(connection, day, name, state)


def switch(connection: sqlite3.Connection, index: str) -> bool:
    """Serve the next edition of an index if it has every sealed day that it can have.

    Days that it gave up for good stay where they are, in the edition that was served until now.
    Gives False, and changes nothing, while days are missing.
    """
    editions = read_editions(connection)
    upcoming = in_the_making(editions, index)
    if upcoming is None:
        return False
    old = serving(editions, index)
    arrived = {}
    for day in read_days(connection):
        record = read_record(connection, day)
        if record is None or record.revision == 0:
            continue
        state = read_states(connection, day).get(upcoming.name, IndexState())
        given_up = state.state == "failed" and state.next_retry_ns is None
        if not given_up and (state.state, state.revision) != ("committed", record.revision):
            return False
        arrived[day] = (state, given_up)
    for day, (state, given_up) in arrived.items():
        held = read_states(connection, day)[index]
        if not given_up or held.revision is None:
            write_state(connection, day, index, state)
            delete_kept(connection, day, index)
        elif index not in read_kept(connection, day):
            write_kept(connection, day, index, old)
    delete_edition(connection, upcoming.name)
    write_edition(connection, Edition(upcoming.name, index, "serving", upcoming.model))
    models = {edition.name: edition.model for edition in editions}
    before = {edition.name for edition in editions if edition.index == index} | {old}
    for name in before - {upcoming.name}:
        keeps = connection.execute(
            "SELECT 1 FROM kept_days WHERE index_name = ? AND edition = ? LIMIT 1", (index, name)
        ).fetchone()
        if keeps:
            write_edition(connection, Edition(name, index, "kept", models.get(name)))
        else:
            delete_edition_record(connection, name)
    return True


def delete_edition_record(connection: sqlite3.Connection, name: str) -> None:
    """Remove the record of an edition and nothing else: the states go by the index's own name."""
    connection.execute("DELETE FROM editions WHERE edition = ?", (name,))
