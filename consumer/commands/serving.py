"""`run`, `status`, `demo`, `replay`: the service and its surroundings."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from consumer.commands import rendering
from consumer.commands.common import ConfigOption, JsonOption, console, open_settings, print_json
from consumer.errors import UnreachableError
from consumer.health.status import read_status, unwell
from consumer.settings import load


def register(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    app.command()(run)
    app.command()(status)
    app.command()(demo)
    app.command()(replay)


def run(config: ConfigOption = None) -> None:
    """Run the service; SIGTERM drains and leaves the registry, SIGHUP rereads [detector]."""
    settings = open_settings(config)
    from consumer.service import Service

    _take_all_descriptors()
    service = Service(settings, reload=lambda: load(config))
    service.install_signal_handlers()
    service.run()


def _take_all_descriptors() -> None:
    """Raise the soft limit of open files to the hard one.

    A mapped table of digests holds one for each full segment of a day: at the usual soft limit of
    1,024 a day would end at a quarter of a terabyte.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show the running service: registry, detectors, rates, losses, days."""
    settings = open_settings(config)
    picture = read_status(settings.data.dir)
    if picture is None:
        raise UnreachableError(
            f"no service has run on data.dir = {settings.data.dir}: start it with `dayfold run`"
        )
    reasons = unwell(picture, time.time_ns())
    if json:
        print_json({**picture, "ready": not reasons, "reasons": reasons})
    else:
        rendering.status(console(), picture, reasons)
    if reasons:
        raise typer.Exit(1)


def demo(
    dir: Annotated[  # noqa: A002 - the option is --dir
        Path | None,
        typer.Option("--dir", help="Keep the demo's data here (default: a temporary folder)."),
    ] = None,
    rate: Annotated[float, typer.Option(help="Events per second.", min=1)] = 2000.0,
    scheme: Annotated[
        Literal["chacha20poly1305-v1", "secretbox-v0"], typer.Option(help="Wire scheme.")
    ] = "chacha20poly1305-v1",
    json: JsonOption = False,
) -> None:
    """Run everything on this machine: registry, detector stand-in, service, days, searches."""
    from consumer.commands.demo import run_demo

    report = run_demo(dir, rate=rate, scheme=scheme, console=None if json else console())
    if json:
        print_json(report)
    if report["lost"] or not report["complete"]:
        raise typer.Exit(1)


def replay(
    source: Annotated[Path, typer.Argument(help="Parquet, JSONL or .pb recording.")],
    bind: Annotated[str, typer.Option("--bind", help="Endpoint to publish on.")],
    scheme: Annotated[
        Literal["chacha20poly1305-v1", "secretbox-v0"], typer.Option(help="Wire scheme.")
    ] = "chacha20poly1305-v1",
    key_file: Annotated[
        Path | None, typer.Option(help="secretbox-v0 key: 64 hex digits or 32 bytes.")
    ] = None,
    seed_file: Annotated[
        Path | None, typer.Option(help="chacha20poly1305-v1 seed: 32 bytes (seed.bin).")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Events per second.", min=0.001)] = None,
    speed: Annotated[
        float | None, typer.Option(help="Factor on the recording's own pace.", min=0.001)
    ] = None,
    days: Annotated[str | None, typer.Option(help="Only these days, comma separated.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many events.", min=1)] = None,
    node: Annotated[str, typer.Option(help="originating_node_id of the events.")] = "replay-01",
    etcd: Annotated[
        list[str] | None, typer.Option(help="Register as ml-detector on this etcd (host:port).")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Key prefix on the registry.")] = "/ml-defender",
    wait_for: Annotated[
        int, typer.Option(help="Wait for so many subscribers before publishing.", min=0)
    ] = 0,
    wait_s: Annotated[float, typer.Option(help="Longest wait for subscribers, seconds.")] = 60.0,
    json: JsonOption = False,
) -> None:
    """Stand in for a detector: publish a recording on the real wire.

    Scores and verdicts of recordings that carry none are simulated.
    """
    from consumer.replay.command import StandIn, run_stand_in

    report = run_stand_in(
        StandIn(
            source=source,
            bind=bind,
            scheme=scheme,
            key_file=key_file,
            seed_file=seed_file,
            rate=rate,
            speed=speed,
            days=days,
            limit=limit,
            node=node,
            etcd=tuple(etcd or ()),
            prefix=prefix,
            wait_for=wait_for,
            wait_s=wait_s,
        )
    )
    if json:
        print_json(report)
    else:
        console().print(
            f"published {report['published']:,} events in {report['seconds']:.1f} s "
            f"({report['rate']:,.0f}/s)"
        )
