"""Celery 5.7 unpacks a message's body unchecked: a body that is not a call of a task ends the worker.

The message is not acknowledged, so it is delivered again and ends the next worker. Here it is rejected.
"""

from typing import Any

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default


class CheckedTask(Task[Any, Any]):
    """A task whose messages are checked before Celery unpacks them."""

    Strategy = f"{__name__}:strategy"


def strategy(task: Any, app: Any, consumer: Any) -> Any:
    """Return Celery's default message handler, preceded by a check of the body."""
    handle = default(task, app, consumer)

    def on_message(message: Any, body: Any, *callbacks: Any) -> Any:
        if not _is_call(message.payload):
            raise InvalidTaskError("the body is not [args, kwargs, options]")
        return handle(message, body, *callbacks)

    return on_message


def _is_call(payload: Any) -> bool:
    """Check for the three parts of Celery's message protocol 2."""
    kinds = (list, dict, dict)
    return isinstance(payload, list) and len(payload) == 3 and all(map(isinstance, payload, kinds))
