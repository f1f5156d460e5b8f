"""Entry point: the command tree, and errors as exit codes.

Exit codes: 0 done; 1 the answer is "not well"; 2 wrong usage or configuration; 3 something that the
command needs is unreachable.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import consumer
from consumer.commands import backfill, care, days, questions, serving, upkeep
from consumer.errors import ConfigurationError, DayfoldError, UnreachableError, UsageError
from consumer.health import logs
from consumer.settings import LogSettings
from embed.errors import EmbedError
from index.errors import StoreError
from models.errors import ModelError

app = typer.Typer(
    name="dayfold",
    help="Every day of network-security events, folded into three searchable indices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
serving.register(app)
days.register(app)
questions.register(app)
upkeep.register(app)
care.register(app)
backfill.register(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dayfold {consumer.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001 - answered by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Every day of network-security events, folded into three searchable indices."""
    # Until a command reads its settings, and for those that have none: standard output is for
    # answers alone.
    logs.configure(LogSettings())


def main() -> None:
    """Run the command line; a known error becomes one line and its exit code."""
    try:
        app()
    except (ConfigurationError, UsageError) as error:
        _fail(error, 2)
    except UnreachableError as error:
        _fail(error, 3)
    except (DayfoldError, StoreError, EmbedError, ModelError) as error:
        _fail(error, 1)


def _fail(error: Exception, code: int) -> None:
    for line in str(error).splitlines():
        print(f"dayfold: {line}", file=sys.stderr)  # noqa: T201 - the one line a person sees
    sys.exit(code)
