"""The HTTP process: health, metrics, and the questions that the command line answers too.

Started by the service (`consumer.web.api_process`) with a listening socket, the settings on standard
input, and the service's process id. It reads the service's picture, the catalogue and the indices;
it writes nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import hmac
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

import consumer
from consumer.errors import UsageError
from consumer.health import logs
from consumer.health.metrics import PictureCollector
from consumer.health.status import read_status, unwell
from consumer.questions.recall import Recall
from consumer.settings import Settings
from index.catalogue import Catalogue
from index.errors import StoreError
from models.errors import ModelError

PR_SET_PDEATHSIG = 1
# Annotations are looked up by name in the module, so this cannot be local.
Count = Annotated[int, Query(ge=1, le=1000)]


class SharedRecall:
    """One `Recall` for all requests, opened at the first question and refreshed at each.

    Questions are answered one at a time: the encoders and indices are not meant for several
    threads, and the machine is small.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recall: Recall | None = None
        self._turn = threading.Lock()

    def ask(self, question: Callable[[Recall], dict[str, Any]]) -> dict[str, Any]:
        """Put one question.

        Raises:
            HTTPException: 404 for what is not there, 503 while an index or model is not usable.
        """
        with self._turn:
            try:
                if self._recall is None:
                    self._recall = Recall.open(self._settings)
                self._recall.refresh()
                return self._recall.ask(question)
            except UsageError as error:
                raise HTTPException(404, str(error)) from error
            except (StoreError, ModelError) as error:
                raise HTTPException(503, str(error)) from error


def build_app(settings: Settings) -> FastAPI:
    """The application. Every path but health needs the token, if one is set."""
    data_dir = settings.data.dir
    shared = SharedRecall(settings)

    def guard(request: Request) -> None:
        token = settings.api.token
        if token is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
            raise HTTPException(401, "a bearer token is needed")

    app = FastAPI(
        title="dayfold",
        version=consumer.__version__,
        docs_url=None,
        redoc_url=None,
    )
    _add_health(app, data_dir)
    guarded = [Depends(guard)]
    _add_metrics(app, data_dir, guarded)
    _add_days(app, data_dir, guarded)
    _add_questions(app, shared, guarded)
    return app


def _add_health(app: FastAPI, data_dir: Path) -> None:
    @app.get("/healthz", summary="Whether the service runs")
    def healthz() -> Response:
        picture = read_status(data_dir)
        well = picture is not None and not picture["service"]["ended_threads"]
        reasons = [] if picture is None else unwell(picture, time.time_ns())
        alive = well and not any("not running" in reason for reason in reasons)
        return JSONResponse({"ok": alive}, 200 if alive else 503)

    @app.get("/readyz", summary="Whether it can receive, and if not, why")
    def readyz() -> Response:
        picture = read_status(data_dir)
        reasons = ["starting"] if picture is None else unwell(picture, time.time_ns())
        return JSONResponse({"ok": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _add_metrics(app: FastAPI, data_dir: Path, guarded: list[Any]) -> None:
    registry = CollectorRegistry()
    registry.register(
        PictureCollector(
            lambda: read_status(data_dir), lambda picture: not unwell(picture, time.time_ns())
        )
    )

    @app.get("/metrics", summary="Prometheus metrics", dependencies=guarded)
    def metrics() -> Response:
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_days(app: FastAPI, data_dir: Path, guarded: list[Any]) -> None:
    path = data_dir / "catalogue.sqlite"

    @app.get("/v1/status", summary="The service's whole picture", dependencies=guarded)
    def status() -> dict[str, Any]:
        picture = read_status(data_dir)
        if picture is None:
            raise HTTPException(503, "no service has run on this data folder")
        reasons = unwell(picture, time.time_ns())
        return {**picture, "ready": not reasons, "reasons": reasons}

    @app.get("/v1/days", summary="Every day and its state", dependencies=guarded)
    def days() -> list[dict[str, Any]]:
        with Catalogue.open(path, read_only=True) as catalogue:
            return [chunk.to_json() for chunk in catalogue.chunks()]

    @app.get("/v1/days/{day}", summary="One day", dependencies=guarded)
    def one_day(day: date) -> dict[str, Any]:
        with Catalogue.open(path, read_only=True) as catalogue:
            chunk = catalogue.chunk(day)
        if chunk is None:
            raise HTTPException(404, f"{day}: no such day")
        return chunk.to_json()


def _add_questions(app: FastAPI, shared: SharedRecall, guarded: list[Any]) -> None:
    @app.get("/v1/similar/{day}", summary="Days like this one", dependencies=guarded)
    def similar(day: date, k: Count = 5, index: str | None = None) -> dict[str, Any]:
        return shared.ask(lambda recall: recall.similar(day, k=k, index=index))

    @app.get("/v1/search", summary="Behaviours in words", dependencies=guarded)
    def search(
        q: Annotated[str, Query(min_length=1, max_length=2000)],
        k: Count = 10,
        first: Annotated[date | None, Query(alias="from")] = None,
        last: Annotated[date | None, Query(alias="to")] = None,
        where: Annotated[list[str] | None, Query()] = None,
    ) -> dict[str, Any]:
        conditions = [condition.partition("=")[::2] for condition in where or []]
        return shared.ask(
            lambda recall: recall.search(q, k=k, first=first, last=last, where=conditions)
        )

    @app.get("/v1/neighbours/{event_id}", summary="Attacks like an event", dependencies=guarded)
    def neighbours(event_id: str, k: Count = 10) -> dict[str, Any]:
        return shared.ask(lambda recall: recall.neighbours(event_id, k=k))

    @app.get("/v1/novelty", summary="How unlike its past each day is", dependencies=guarded)
    def novelty(day: date | None = None) -> dict[str, Any]:
        return shared.ask(lambda recall: recall.novelty(day))


def main() -> int:
    """Serve on the socket that was handed in, until the service ends."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    settings = Settings(**json.loads(sys.stdin.read()))
    logs.configure(settings.log)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    os.nice(5)
    # The service's own stop ends this process; a Ctrl-C goes to the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = uvicorn.Server(
        uvicorn.Config(build_app(settings), log_level="warning", access_log=False, lifespan="off")
    )
    listener = socket.socket(fileno=descriptor)
    asyncio.run(server.serve(sockets=[listener]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
