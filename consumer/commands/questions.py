"""`similar`, `search`, `neighbours`, `novelty`: what the indices are for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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

if TYPE_CHECKING:
    from consumer.questions.recall import Recall

CountOption = Annotated[int, typer.Option("-k", help="How many results.", min=1, max=1000)]


def register(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    app.command()(similar)
    app.command()(search)
    app.command()(neighbours)
    app.command()(novelty)


def _recall(config: Path | None) -> Recall:
    # Encoders and indices take a second and a hundred megabytes: only for who asks.
    from consumer.questions.recall import Recall

    return Recall.open(open_settings(config))


def similar(
    date: DayArgument,
    k: CountOption = 5,
    index: Annotated[
        str | None, typer.Option("--index", help="Only by this index (default: all three).")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Days like this one, and why."""
    with _recall(config) as recall:
        answer = recall.similar(parse_day(date), k=k, index=index)
    if json:
        print_json(answer)
    else:
        rendering.similar(console(), answer)


def search(
    text: Annotated[str, typer.Argument(help="A behaviour in words.")],
    k: CountOption = 10,
    first: Annotated[str | None, typer.Option("--from", help="First day.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="FIELD=VALUE, such as destination_port=22; may repeat."),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Behaviours in words, most alike first."""
    with _recall(config) as recall:
        answer = recall.search(
            text,
            k=k,
            first=None if first is None else parse_day(first),
            last=None if last is None else parse_day(last),
            where=[parse_condition(condition) for condition in where or []],
        )
    if json:
        print_json(answer)
    else:
        rendering.search(console(), answer)


def parse_condition(text: str) -> tuple[str, str]:
    """FIELD=VALUE in two.

    Raises:
        UsageError: there is no equals sign, or nothing before it.
    """
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise UsageError(f"--where {text!r}: write it as FIELD=VALUE")
    return field, value


def neighbours(
    event_id: Annotated[str | None, typer.Argument(help="An event_id.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="An event as plain protobuf (event_ID.pb).")
    ] = None,
    k: CountOption = 10,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Attacks like this event."""
    if (event_id is None) == (file is None):
        raise UsageError("give either an EVENT_ID or --file FILE")
    with _recall(config) as recall:
        if file is not None:
            answer = recall.neighbours_of_file(file, k=k)
        else:
            assert event_id is not None  # noqa: S101 - exactly one is given
            answer = recall.neighbours(event_id, k=k)
    if json:
        print_json(answer)
    else:
        rendering.neighbours(console(), answer)


def novelty(
    date: Annotated[str | None, typer.Argument(help="A day (default: every day).")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """How unlike its past each day is, 0 to 1."""
    with _recall(config) as recall:
        answer = recall.novelty(None if date is None else parse_day(date))
    if json:
        print_json(answer)
    else:
        rendering.novelty(console(), answer)
