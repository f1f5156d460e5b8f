"""`verify`, `quarantine`, `models`, `config`: looking after the installation."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from consumer.care.offline import OfflineDays, service_is_live
from consumer.clock import SystemClock
from consumer.commands import figures, rendering
from consumer.commands.common import ConfigOption, JsonOption, console, open_settings, print_json
from consumer.errors import UnreachableError, UsageError
from consumer.folding.requests import Requests
from consumer.health.status import is_live, read_status
from consumer.quarantine.quarantine import Quarantine
from consumer.settings import MIB, Settings, load, reference
from models.build import build as build_model
from models.checkpoint import build_checkpoint, use_shipped
from models.manifest import find_entry
from models.store import installed_models
from models.store import state as model_state

quarantine = typer.Typer(help="What could not be accepted, and why.", no_args_is_help=True)
models = typer.Typer(help="The encoders.", no_args_is_help=True)
config_commands = typer.Typer(help="Settings.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    app.command()(verify)
    app.add_typer(quarantine, name="quarantine")
    app.add_typer(models, name="models")
    app.add_typer(config_commands, name="config")


def verify(
    deep: Annotated[
        bool, typer.Option("--deep", help="Also load every vector and every record.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Check journals, catalogue, indices and models: checksums, counts, cross-references."""
    from consumer.care.verify import verify_data

    answer = verify_data(open_settings(config), deep=deep)
    if json:
        print_json(answer)
    else:
        rendering.verify(console(), answer)
    if not answer["ok"]:
        raise typer.Exit(1)


def _quarantine(settings: Settings) -> Quarantine:
    return Quarantine(
        settings.data.dir / "quarantine",
        SystemClock(),
        max_bytes=settings.quarantine.max_mb * MIB,
        max_age_days=settings.quarantine.max_age_days,
    )


@quarantine.command("list")
def quarantine_list(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many messages.", min=0)] = 20,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List reasons and the latest messages."""
    kept = _quarantine(open_settings(config))
    answer = {
        "reasons": kept.counts(),
        "messages": [message.to_json() for message in kept.list(reason, limit=limit)],
    }
    if json:
        print_json(answer)
        return
    table = Table(title="Quarantine", title_justify="left")
    table.add_column("reason")
    table.add_column("messages", justify="right")
    for name, count in kept.counts().items():
        table.add_row(name, f"{count:,}")
    console().print(table)


@quarantine.command("retry")
def quarantine_retry(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Try messages under unknown keys or from the future again. Needs a running service."""
    settings = open_settings(config)
    picture = read_status(settings.data.dir)
    if picture is None or not is_live(picture, time.time_ns()):
        raise UnreachableError(
            f"no service runs on data.dir = {settings.data.dir}: it alone knows the keys"
        )
    os.kill(picture["service"]["pid"], signal.SIGHUP)
    if json:
        print_json({"asked": True})
    else:
        console().print("asked the service to try again; see `dayfold status`")


@quarantine.command("purge")
def quarantine_purge(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Remove quarantined messages for good. Needs a stopped service."""
    settings = open_settings(config)
    _refuse_while_live(settings)
    removed = _quarantine(settings).purge(reason)
    if json:
        print_json({"purged": removed})
    else:
        console().print(f"purged {removed:,} messages")


def _refuse_while_live(settings: Settings) -> None:
    if service_is_live(settings.data.dir):
        raise UsageError(
            f"a service runs on data.dir = {settings.data.dir}: stop it first "
            "(for a retry, send it SIGHUP)"
        )


@models.command("list")
def models_list(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the encoders and where each one stands."""
    settings = open_settings(config)
    answer = model_facts(settings)
    if json:
        print_json(answer)
        return
    table = Table(title="Models", title_justify="left")
    for heading in ("name", "index", "dimension", "state", "licence", "source"):
        table.add_column(heading)
    for facts in answer:
        table.add_row(
            facts["name"],
            facts["index"],
            str(facts["dimension"]),
            facts["state"],
            facts["licence"],
            facts["source"],
        )
    console().print(table)


def model_facts(settings: Settings) -> list[dict[str, Any]]:
    """The encoders as `models list --json` prints them."""
    return [
        {
            "name": entry.name,
            "index": entry.index,
            "dimension": entry.dimension,
            "sha256": entry.sha256,
            "source": entry.source,
            "licence": entry.licence,
            "state": model_state(entry, settings.models.cache_dir),
        }
        for entry in installed_models(settings.models.cache_dir)
    ]


@models.command("build")
def models_build(
    name: Annotated[str | None, typer.Argument(help="One model (default: all).")] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="A Chronos checkpoint for the time series: a folder or a name."),
    ] = None,
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Go back to the shipped time-series encoder.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch and check what is not in the package, and embed anew what other models embedded."""
    settings = open_settings(config)
    cache_dir = settings.models.cache_dir
    if checkpoint is not None or shipped:
        if name is None or find_entry(name, installed_models(cache_dir)).index != "timeseries":
            raise UsageError("--checkpoint and --shipped are for the model `timeseries`")
        if checkpoint is not None and shipped:
            raise UsageError("--checkpoint and --shipped exclude each other")
    if checkpoint is not None:
        build_checkpoint(checkpoint, cache_dir=cache_dir)
    elif shipped:
        use_shipped(cache_dir)
    for entry in installed_models(cache_dir):
        if name is None or name in (entry.name, entry.index):
            build_model(entry, cache_dir=cache_dir)
    _bring_indices_along(settings)
    models_verify(config, json)


def _bring_indices_along(settings: Settings) -> None:
    """Have the indices embedded by the models that are there now, if others embedded them."""
    from consumer.care.verify import indices_of_other_models

    behind = indices_of_other_models(settings)
    if not behind:
        return
    print(f"embedding anew: {', '.join(behind)}", file=sys.stderr)  # noqa: T201 - takes its time
    if service_is_live(settings.data.dir):
        Requests(settings.data.dir).ask_reconcile()
    else:
        with OfflineDays(settings) as offline:
            offline.reconcile()


@models.command("verify")
def models_verify(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Check every model against the manifest."""
    answer = model_facts(open_settings(config))
    if json:
        print_json(answer)
    else:
        for facts in answer:
            console().print(f"{facts['name']}: {facts['state']}")
    if any(facts["state"] != "ready" for facts in answer):
        raise typer.Exit(1)


@models.command("evaluate")
def models_evaluate(
    name: Annotated[
        str | None, typer.Argument(help="One model or index, or novelty (default: everything).")
    ] = None,
    flows: Annotated[
        Path | None,
        typer.Option(help="Parquet file of labelled flows (default: the shipped ones)."),
    ] = None,
    ucr: Annotated[Path | None, typer.Option(help="Folder of UCR problems as .ts files.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Measure the encoders, the search and novelty on labelled flows; takes minutes."""
    # Encoders are loaded only for who asks.
    from consumer.evaluation.choice import evaluate
    from consumer.evaluation.sources import sources

    answer = evaluate(name, sources(flows, ucr, open_settings(config).models.cache_dir))
    if json:
        print_json(answer)
    else:
        figures.show(console(), answer)
    if any("error" in found for found in answer.values()):
        raise typer.Exit(1)


@config_commands.command("check")
def config_check(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Validate the settings; one line per fault."""
    load(config)
    if json:
        print_json({"ok": True})
    else:
        console().print("The settings are valid.")


@config_commands.command("show")
def config_show(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print the settings in force; secrets are hidden."""
    values = load(config).model_dump(mode="json")
    if json:
        print_json(values)
        return
    for section, keys in values.items():
        console().print(f"[{section}]", markup=False)
        for key, value in keys.items():
            console().print(f"{key} = {value!r}", markup=False)


@config_commands.command("reference")
def config_reference(json: JsonOption = False) -> None:
    """Document every key: type, default, environment variable, meaning."""
    entries = reference()
    if json:
        print_json([entry.model_dump() for entry in entries])
        return
    for entry in entries:
        console().print(f"{entry.key}  ({entry.type}, default {entry.default!r})", markup=False)
        console().print(f"    {entry.description}  DAYFOLD_{entry.env}", markup=False)


def write_reference(path: Path) -> None:
    """Write the reference as a Markdown page; `docs/settings.md` is made by it."""
    lines = ["# Settings", "", "Made by `dayfold config reference`.", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for entry in reference():
        kind = entry.type.replace("|", "or")
        lines.append(f"| `{entry.key}` | {kind} | `{entry.default!r}` | {entry.description} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
