"""One event a line: words for a terminal, JSON for everything else. Celery's own lines in the same form."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _calm(record: logging.LogRecord) -> bool:
    """A message that goes back to its queue is no failure: Celery's line for it needs no traceback."""
    if record.levelno < logging.ERROR:
        record.exc_info = record.exc_text = None
    return True


def configure(level: str, redacted: Callable[[str], str]) -> None:
    """Send every logger's lines to stderr, once each, from `level` up; `redacted` takes secrets out of them."""
    terminal = sys.stderr.isatty()
    # The other formatters of tracebacks show variables, and with them what is secret.
    plain = structlog.dev.plain_traceback
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=plain)
        if terminal
        else structlog.processors.JSONRenderer()
    )
    last = [] if terminal else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *last,
                renderer,
                lambda _, __, line: redacted(str(line)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("celery.app.trace").addFilter(_calm)
    for noisy in ("celery.worker.strategy", "celery.app.trace", "urllib3", "pymongo", "redis", "kombu"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
