"""`repair`, `snapshot`, `restore`, `forget`: for the day when a disk lies, and for privacy."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from consumer.care.offline import OfflineDays, service_is_live
from consumer.clock import SystemClock
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
from consumer.errors import ForgetError, UsageError
from consumer.retention.forget import Tombstone, ask_to_forget, read_tombstone
from consumer.settings import MIB, Settings

FORGET_WAIT_S = 120.0


def register(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    app.command()(repair)
    app.command()(snapshot)
    app.command()(restore)
    app.command()(forget)


def repair(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Rebuild what `verify` finds broken; name what cannot be. Needs a stopped service."""
    from consumer.care.repair import repair_data

    answer = repair_data(open_settings(config), clock=SystemClock())
    if json:
        print_json(answer)
    else:
        _print_repair(answer)
    if not answer["ok"]:
        raise typer.Exit(1)


def _print_repair(answer: Mapping[str, Any]) -> None:
    out = console()
    for heading, entries in (
        ("Repaired", answer["repaired"]),
        ("Cannot be brought back", answer["unrecoverable"]),
    ):
        if entries:
            out.print(f"{heading}:")
        for entry in entries:
            out.print(f"  {entry['what']}  {entry['where']}", markup=False)
            out.print(f"      {entry['detail']}", markup=False)
            for line in _named(entry):
                out.print(f"      {line}", markup=False)
    if not answer["repaired"] and not answer["unrecoverable"]:
        out.print("Nothing had to be repaired.")
    rendering.verify(out, {**answer, "ok": not answer["faults"]})


def _named(entry: Mapping[str, Any]) -> list[str]:
    """Lost events one by one, and where the whole list is."""
    lines = [
        f"event {event['event_id']} of {event['node']}"
        if event["event_id"] is not None
        else f"event with the digest {event['digest']}"
        for event in entry.get("named", [])
    ]
    if entry.get("list"):
        lines.append(f"all of them: journal/{entry['day']}/{entry['list']}")
    return lines


def snapshot(
    target: Annotated[Path, typer.Argument(help="A new folder.", metavar="DIR")],
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy everything, even where a link would do.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Put a whole copy of the data folder into DIR; the service may run meanwhile."""
    from consumer.care.snapshot import take_snapshot

    settings = open_settings(config)
    answer = take_snapshot(settings, target, clock=SystemClock(), links=not copy)
    if json:
        print_json(answer)
        return
    console().print(
        f"{answer['snapshot']}: {answer['files']:,} files, {answer['bytes'] / MIB:,.1f} MiB, "
        f"{answer['linked']:,} of them linked"
    )
    if not answer["settled"]:
        console().print(
            "The catalogue does not agree with the journals; see `dayfold verify`. The snapshot "
            "has both as they are."
        )


def restore(
    source: Annotated[Path, typer.Argument(help="A snapshot.", metavar="DIR")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Put a snapshot into the data folder, which must be empty, once every byte is checked."""
    from consumer.care.restore import restore_snapshot

    answer = restore_snapshot(open_settings(config), source)
    if json:
        print_json(answer)
        return
    console().print(
        f"{answer['restored']}: {answer['files']:,} files, {answer['bytes'] / MIB:,.1f} MiB, "
        "every one as it was. Next: `dayfold verify --deep`, then start the service."
    )


def forget(
    date: DayArgument,
    yes: Annotated[
        bool, typer.Option("--yes", help="Really remove the day; nothing brings it back.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Remove a day everywhere: journal, indices, catalogue, quarantine."""
    settings = open_settings(config)
    day = parse_day(date)
    if not yes:
        raise UsageError(
            f"{day}: its journal, its rows in all indices, and the quarantined messages that "
            "arrived on it will be removed for good; say --yes if that is what you want"
        )
    if not settings.data.dir.is_dir():
        raise UsageError(f"data.dir = {settings.data.dir}: there is no such folder")
    ask_to_forget(settings.data.dir, day, SystemClock().now_ns())
    if service_is_live(settings.data.dir):
        done = _wait_until_forgotten(settings, day)
    else:
        done = _forget_here(settings, day)
    if json:
        print_json(done.to_json())
        return
    removed = done.removed
    if removed is not None:
        rows = ", ".join(f"{count:,} {name}" for name, count in removed.rows.items()) or "none"
        console().print(
            f"{day} is forgotten: {removed.events:,} events "
            f"({removed.bytes / MIB:,.1f} MiB of journal), rows: {rows}, "
            f"{removed.quarantined:,} quarantined messages"
        )
    console().print("Snapshots, detectors' logs and other copies still have the day.")


def _forget_here(settings: Settings, day: dt.date) -> Tombstone:
    with OfflineDays(settings) as offline:
        waiting = [one for one in offline.forgetting.unfinished() if one.day == day]
        for tombstone in waiting:
            offline.forgetting.finish(tombstone)
    done = read_tombstone(settings.data.dir, day)
    if done is None or done.finished_ns is None:
        raise ForgetError(f"{day} is not forgotten yet: see the log of the service")
    return done


def _wait_until_forgotten(settings: Settings, day: dt.date) -> Tombstone:
    asked = time.monotonic()
    while True:
        time.sleep(0.2)
        tombstone = read_tombstone(settings.data.dir, day)
        if tombstone is not None and tombstone.finished_ns is not None:
            return tombstone
        if tombstone is not None and tombstone.error is not None:
            raise ForgetError(f"{day} is not wholly forgotten yet: {tombstone.error}")
        if not service_is_live(settings.data.dir):
            return _forget_here(settings, day)
        if time.monotonic() - asked > FORGET_WAIT_S:
            raise ForgetError(
                f"{day} is not forgotten yet: a fold may be running; the service goes on with it"
            )
