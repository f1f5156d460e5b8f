"""`dayfold demo`: the whole way of an event on one machine, with progress and a result."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from consumer.commands import rendering
from consumer.demo.deployment import SAMPLE, Deployment, DeploymentError
from consumer.questions.recall import Recall
from consumer.settings import load
from models.build import build as build_model
from models.store import installed_models
from models.store import state as model_state

FOLD_S = 600.0
STREAM_S = 600.0


def run_demo(
    folder: Path | None, *, rate: float, scheme: str, console: Console | None
) -> dict[str, Any]:
    """Run a deployment to its end and report.

    Args:
        folder: where its data stays; None for a temporary folder.
        rate: events per second of the stand-in.
        scheme: the wire scheme.
        console: where a person watches; None for none.

    Raises:
        DeploymentError: a part failed, or something took too long.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dayfold-demo-")))
        _prepare_models(console)
        began = time.monotonic()
        deployment = stack.enter_context(Deployment(folder.resolve()))
        view = stack.enter_context(_View(console))
        view.say(f"registry: etcd on {deployment.etcd.endpoint}")
        deployment.start_service()
        view.say("consumer: registered, waiting for a detector")
        published = _stream(deployment, rate, scheme, view)
        picture = _close_and_fold(deployment, view)
        view.stop()
        report = _report(published, picture, time.monotonic() - began)
        report["searches"] = _searches(deployment.config, console)
        deployment.stop_service()
        report["seconds"] = round(time.monotonic() - began, 1)
        if console is not None:
            _conclude(console, report, folder)
        return report


def _prepare_models(console: Console | None) -> None:
    for entry in installed_models():
        if model_state(entry) != "ready":
            if console is not None:
                console.print(f"fetching the encoder {entry.name} (once)")
            build_model(entry)


def _stream(deployment: Deployment, rate: float, scheme: str, view: _View) -> int:
    """Publish the sample and wait until the journal has all that was published."""
    total = _sample_size()
    replay = deployment.start_replay(rate=rate, scheme=scheme)
    view.say(f"detector stand-in: {total:,} real flows of five days on {scheme}")
    show = view.bar("events journaled", total)
    deployment.wait_for(
        "the stream to end",
        lambda _picture: replay.poll() is not None,
        timeout_s=STREAM_S,
        tick=lambda picture: show(picture["intake"]["journaled"], total),
    )
    published = int(deployment.replay_report()["published"])
    # What is missing after this was lost on the wire; the report says how many.
    with suppress(DeploymentError):
        deployment.wait_for(
            "the last events",
            lambda picture: (
                picture["journal"]["durable"] + picture["intake"]["duplicates"] >= published
            ),
            timeout_s=10,
            tick=lambda picture: show(picture["intake"]["journaled"], total),
        )
    return published


def _close_and_fold(deployment: Deployment, view: _View) -> dict[str, Any]:
    """Ask for the last day to close, and wait until all are committed."""
    picture = deployment.picture()
    assert picture is not None  # noqa: S101 - the service wrote it while streaming
    for day in picture["journal"]["open_days"]:
        deployment.close(date.fromisoformat(day))
    show = view.bar("days committed", len(picture["days"]))
    return deployment.wait_for(
        "every day to be committed",
        lambda picture: (
            bool(picture["days"])
            and not picture["journal"]["open_days"]
            and all(day["state"] == "committed" for day in picture["days"])
        ),
        timeout_s=FOLD_S,
        tick=lambda picture: show(
            sum(day["state"] == "committed" for day in picture["days"]), len(picture["days"])
        ),
    )


def _report(published: int, picture: dict[str, Any], seconds: float) -> dict[str, Any]:
    intake = picture["intake"]
    lost = sum(max(link["losses"]["lost"], link["dropped"]) for link in picture["detectors"])
    lost = max(lost, published - intake["received"])
    return {
        "published": published,
        "received": intake["received"],
        "journaled": intake["journaled"],
        "duplicates": intake["duplicates"],
        "quarantined": intake["quarantined"],
        "lost": lost,
        "seconds": round(seconds, 1),
        "complete": published == intake["received"] == intake["journaled"],
        "days": picture["days"],
    }


def _searches(config: Path, console: Console | None) -> list[dict[str, Any]]:
    """A few questions whose true answers are known from the capture's own description."""
    found: list[dict[str, Any]] = []
    with Recall.open(load(config)) as recall:

        def ask(
            command: str,
            answer: dict[str, Any],
            show: Callable[[Console, dict[str, Any]], None],
        ) -> None:
            found.append({"command": command, "answer": answer})
            if console is not None:
                console.print(f"\n$ {command}", style="bold")
                show(console, answer)

        for text in ("ssh brute force", "port scan of many closed ports"):
            ask(f'dayfold search "{text}" -k 3', recall.search(text, k=3), rendering.search)
        first = found[0]["answer"]["results"]
        if first and first[0]["event_ids"]:
            event = first[0]["event_ids"][0]
            ask(
                f"dayfold neighbours {event} -k 3",
                recall.neighbours(event, k=3),
                rendering.neighbours,
            )
        ask(
            "dayfold similar 2017-07-07 -k 2",
            recall.similar(date(2017, 7, 7), k=2),
            rendering.similar,
        )
    return found


def _conclude(console: Console, report: dict[str, Any], folder: Path) -> None:
    console.print()
    rendering.days(console, report["days"])
    console.print(
        f"published {report['published']:,}, received {report['received']:,}, "
        f"journaled {report['journaled']:,}, quarantined {report['quarantined']:,}, "
        f"lost {report['lost']:,}, in {report['seconds']:.0f} seconds",
        soft_wrap=True,
    )
    if folder.is_dir() and not folder.name.startswith("dayfold-demo-"):
        console.print(f"Ask more with: dayfold search TEXT --config {folder / 'dayfold.toml'}")


def _sample_size() -> int:
    import pyarrow.parquet

    return int(pyarrow.parquet.read_metadata(SAMPLE).num_rows)


class _View:
    """Progress for a person; silent for a pipe."""

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._progress: Progress | None = None
        if console is not None and console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description:>18}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line)
        elif self._console is not None:
            self._console.print(line)

    def bar(self, label: str, total: int) -> Callable[[int, int], None]:
        progress = self._progress
        if progress is None:
            return lambda _done, _total: None
        task = progress.add_task(label, total=total)
        return lambda done, total: progress.update(task, completed=done, total=total)
