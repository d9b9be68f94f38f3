"""One event per line: readable on a terminal, else JSON. Celery's own lines have the same form."""

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
#: Loggers that write a line per task or request.
_CHATTY = ("celery.worker.strategy", "celery.app.trace", "urllib3", "pymongo", "redis", "kombu")


def configure(level: str, redacted: Callable[[str], str]) -> None:
    """Log to stderr from `level` up, every logger's lines once; `redacted` removes secrets from them."""
    terminal = sys.stderr.isatty()
    # structlog's other traceback formatters show variables, and with them secrets.
    plain = structlog.dev.plain_traceback
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=plain)
        if terminal
        else structlog.processors.JSONRenderer()
    )
    format_exceptions = [] if terminal else [structlog.processors.format_exc_info]
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
                *format_exceptions,
                renderer,
                lambda _, __, line: redacted(str(line)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("celery.app.trace").addFilter(_without_traceback)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _without_traceback(record: logging.LogRecord) -> bool:
    """Remove the traceback from lines below ERROR: Celery adds one when a message is requeued."""
    if record.levelno < logging.ERROR:
        record.exc_info = record.exc_text = None
    return True
