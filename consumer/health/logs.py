"""Structured logs on standard error: coloured lines for a person, JSON for a pipe."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog

from consumer.settings import LogSettings


class _StandardError:
    """Standard error as it is now, so that a redirected one is followed.

    A line that cannot be written there (the disk of a log file is full, who read the pipe is gone)
    is dropped: no thread of the service may end for a log.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(settings: LogSettings) -> None:
    """Set up structlog for this process. Standard output stays free for answers."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.level.upper()]
        ),
        logger_factory=lambda *_: structlog.PrintLogger(cast("TextIO", _StandardError())),
    )
