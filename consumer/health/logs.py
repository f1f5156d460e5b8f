"""Structured logs on standard error: coloured lines for a person, JSON for a pipe."""

from __future__ import annotations

import logging
import sys

import structlog

from consumer.settings import LogSettings


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
        # Asked at each line, so that a redirected standard error is followed.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
