"""`import`, `watch-logs`: the past, and logs instead of a wire."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from consumer.backfill.layout import plan
from consumer.backfill.tally import ImportResult, OnProgress
from consumer.backfill.tally import Progress as ImportProgress
from consumer.clock import SystemClock
from consumer.commands.common import ConfigOption, JsonOption, console, open_settings, print_json
from consumer.errors import UsageError
from consumer.journal import DataLock
from consumer.settings import MIB, Settings

#: Rejected for these, an event can be had by another import: the answer is "not well".
_CALLS_FOR_MORE = frozenset({"unknown_key", "unreadable"})

TimezoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        help="Time zone of the dates in file names (default: day.timezone).",
        metavar="NAME",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    app.command("import")(import_)
    app.command("watch-logs")(watch_logs)


def import_(
    paths: Annotated[
        list[Path], typer.Argument(help="Logs, artifacts, recordings, or folders of them.")
    ],
    timezone: TimezoneOption = None,
    seed_file: Annotated[
        Path | None, typer.Option(help="The deployment's seed.bin, which opens .pb.enc artifacts.")
    ] = None,
    node: Annotated[
        str, typer.Option(help="originating_node_id of flows in Parquet files.")
    ] = "replay",
    again: Annotated[
        bool, typer.Option("--again", help="Also read files that an import has finished before.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Bring in the past from the detector's logs and artifacts, or Parquet. Repeats add nothing."""
    from consumer.backfill.artifacts import artifact_keys
    from consumer.backfill.importer import Importer, ImportOptions
    from consumer.backfill.writer import WaitForService, open_sink

    settings = open_settings(config)
    clock = SystemClock()
    options = ImportOptions(
        zone=settings.day.zone,
        local=_zone(timezone, settings),
        node=node,
        keys=tuple(artifact_keys(seed_file, settings.detector.keys)),
        ahead_s=settings.day.ahead_s,
        max_event_bytes=settings.subscriber.max_event_mb * MIB,
        again=again,
    )
    units = plan(paths)
    data_dir = settings.data.dir
    wait = WaitForService(data_dir)
    with (
        DataLock(data_dir / "import"),
        open_sink(settings, clock=clock, wait=wait) as sink,
        _progress(console(), shown=not json) as on_progress,
    ):
        importer = Importer(sink, data_dir, options, clock=clock, on_progress=on_progress)
        result = importer.run(units)
    if json:
        print_json(result.to_json())
    else:
        _show(console(), result)
    if not _CALLS_FOR_MORE.isdisjoint(result.rejected):
        raise typer.Exit(1)


def watch_logs(
    folder: Annotated[
        Path, typer.Argument(help="The detector's folder with events/ in it.", metavar="DIR")
    ],
    timezone: TimezoneOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="Read what is there and end, instead of following.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Follow the logs of a detector that has no wire, without losing or repeating a line."""
    from consumer.backfill.watching import watch

    settings = open_settings(config)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    report = watch(
        settings,
        folder,
        local=_zone(timezone, settings),
        clock=SystemClock(),
        stopping=stopping,
        once=once,
    ).to_json()
    if json:
        print_json(report)
    else:
        console().print(_summary(report))


def _zone(name: str | None, settings: Settings) -> ZoneInfo:
    if name is None:
        return settings.day.zone
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UsageError(
            f"--timezone {name!r} is unknown: use a name such as Europe/Madrid"
        ) from error


@contextmanager
def _progress(terminal: Console, *, shown: bool) -> Iterator[OnProgress]:
    """A progress bar for a person; a pipe sees none."""
    if not shown or not terminal.is_terminal:
        yield lambda _: None
        return
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[reading]}"),
    )
    with Progress(*columns, console=terminal, transient=True) as bar:
        task = bar.add_task("import", reading="", total=None)

        def show(progress: ImportProgress) -> None:
            bar.update(
                task, completed=progress.done, total=progress.total, reading=progress.reading
            )

        yield show


def _show(terminal: Console, result: ImportResult) -> None:
    table = Table(title="Imported", title_justify="left")
    table.add_column("day")
    table.add_column("read", justify="right")
    table.add_column("added", justify="right")
    for day, (read, added) in sorted(result.days.items()):
        table.add_row(str(day), f"{read:,}", f"{added:,}")
    terminal.print(table)
    terminal.print(_summary(result.to_json()))
    for fault in result.faults:
        terminal.print(f"{fault.where}: {fault.reason}: {fault.detail}", markup=False)
    if result.added:
        terminal.print("A service closes these days by itself; without one, `dayfold close DATE`.")


def _summary(answer: dict[str, Any]) -> str:
    rejected = ", ".join(f"{n:,} {reason}" for reason, n in answer["rejected"].items())
    return (
        f"read {answer['read']:,}, added {answer['added']:,}, "
        f"duplicates {answer['duplicates']:,}, rejected {rejected or 'none'}"
    )
