"""`days`, `show`, `close`, `reconcile`: chunks and their state."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from consumer.care.offline import OfflineDays, service_is_live
from consumer.commands import rendering
from consumer.commands.common import (
    ConfigOption,
    DayArgument,
    JsonOption,
    console,
    open_settings,
    parse_day,
    print_json,
)
from consumer.errors import UsageError
from consumer.folding.requests import Requests
from consumer.settings import Settings
from index.catalogue import Catalogue
from index.chunks import Chunk

CLOSE_WAIT_S = 600.0


def register(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    app.command("days")(days)
    app.command()(show)
    app.command()(close)
    app.command()(reconcile)


def _catalogue_path(settings: Settings) -> Path:
    return settings.data.dir / "catalogue.sqlite"


def _chunks(settings: Settings) -> list[Chunk]:
    path = _catalogue_path(settings)
    if not path.exists():
        return []
    with Catalogue.open(path, read_only=True) as catalogue:
        return catalogue.chunks()


def _chunk(settings: Settings, text: str) -> Chunk:
    day = parse_day(text)
    chunks = _chunks(settings)
    for chunk in chunks:
        if chunk.day == day:
            return chunk
    known = ", ".join(str(chunk.day) for chunk in chunks[-7:]) or "none yet"
    raise UsageError(f"{day}: no such day in {settings.data.dir}; the latest days are: {known}")


def days(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the days and the state of each index."""
    settings = open_settings(config)
    chunks = [chunk.to_json() for chunk in _chunks(settings)]
    if json:
        print_json(chunks)
    else:
        rendering.days(console(), chunks)
    if any(chunk["state"] == "degraded" for chunk in chunks):
        raise typer.Exit(1)


def show(
    date: DayArgument,
    event: Annotated[
        str | None, typer.Option(help="Show this event of the day out of the journal instead.")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show one day: counts, indices, coverage; or one of its events with all its fields."""
    settings = open_settings(config)
    if event is not None:
        _show_event(settings, date, event, json)
        return
    chunk = _chunk(settings, date).to_json()
    if json:
        print_json(chunk)
    else:
        rendering.day(console(), chunk)
    if chunk["state"] == "degraded":
        raise typer.Exit(1)


def _show_event(settings: Settings, date: str, event_id: str, as_json: bool) -> None:
    from consumer.questions.event_view import find_events

    day = parse_day(date)
    found = find_events(settings.data.dir / "journal", day, event_id)
    if not found:
        raise UsageError(f"event {event_id!r}: the journal of {day} does not have it")
    if as_json:
        print_json({"day": day.isoformat(), "events": found})
    else:
        for view in found:
            rendering.event(console(), view)


def close(date: DayArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Close a day now, by the running service or, if none runs, here."""
    settings = open_settings(config)
    day = parse_day(date)
    if service_is_live(settings.data.dir):
        before = _chunk(settings, date)
        Requests(settings.data.dir).ask_close(day)
        chunk = _wait_until_settled(settings, date, before)
    else:
        with OfflineDays(settings) as offline:
            chunk = offline.close(day)
    _print_closed(chunk, json)


def _wait_until_settled(settings: Settings, date: str, before: Chunk) -> Chunk:
    asked = time.monotonic()
    while True:
        time.sleep(0.2)
        chunk = _chunk(settings, date)
        # A day that had nothing new stays as it was: closing twice changes nothing.
        moved = chunk.revision != before.revision or time.monotonic() - asked > 2.0
        if moved and chunk.state in {"committed", "degraded"}:
            return chunk
        if time.monotonic() - asked > CLOSE_WAIT_S or not service_is_live(settings.data.dir):
            return chunk


def _print_closed(chunk: Chunk, as_json: bool) -> None:
    plain = chunk.to_json()
    if as_json:
        print_json(plain)
    else:
        rendering.day(console(), plain)
    if plain["state"] != "committed":
        raise typer.Exit(1)


def reconcile(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Commit now what is behind, and embed anew what another model made, without waiting."""
    settings = open_settings(config)
    if service_is_live(settings.data.dir):
        Requests(settings.data.dir).ask_reconcile()
        chunks = _wait_for_reconcile(settings)
    else:
        with OfflineDays(settings) as offline:
            chunks = offline.reconcile()
    plain = [chunk.to_json() for chunk in chunks]
    if json:
        print_json(plain)
    else:
        rendering.days(console(), plain)
    behind = (chunk.state not in {"committed", "open"} or _moves(chunk) for chunk in chunks)
    if any(behind):
        raise typer.Exit(1)


def _moves(chunk: Chunk) -> bool:
    """Whether an index of the day is still to be embedded by the model that is installed now."""
    return any(
        state.state == "pending" or state.next_retry_ns is not None
        for state in chunk.upcoming.values()
    )


def _wait_for_reconcile(settings: Settings) -> list[Chunk]:
    asked = time.monotonic()
    tries = {chunk.day: _attempts(chunk) for chunk in _chunks(settings)}
    while True:
        time.sleep(0.2)
        chunks = _chunks(settings)
        behind = [
            chunk
            for chunk in chunks
            if (chunk.state not in {"committed", "open"} or _moves(chunk))
            and _attempts(chunk) == tries.get(chunk.day)
        ]
        if not behind or time.monotonic() - asked > CLOSE_WAIT_S:
            return chunks


def _attempts(chunk: Chunk) -> int:
    return sum(s.attempts for states in (chunk.indices, chunk.upcoming) for s in states.values())
