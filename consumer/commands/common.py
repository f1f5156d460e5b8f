"""What every command shares: options, settings, and the choice between JSON and tables."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from consumer.errors import UsageError
from consumer.health import logs
from consumer.settings import Settings, load

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file (default: dayfold.toml).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DayArgument = Annotated[str, typer.Argument(help="A day, such as 2017-07-04.", metavar="DATE")]


def open_settings(config: Path | None) -> Settings:
    """Load the settings and set up logs.

    Raises:
        ConfigurationError: the settings are refused.
    """
    settings = load(config)
    logs.configure(settings.log)
    return settings


def console() -> Console:
    """Where tables go: colours for a terminal, plain text for a pipe."""
    return Console(highlight=False, soft_wrap=False)


def print_json(document: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def parse_day(text: str) -> date:
    """A day from the command line.

    Raises:
        UsageError: it is not an ISO date.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a day: write it as 2017-07-04") from error
