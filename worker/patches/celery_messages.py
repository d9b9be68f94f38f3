"""Messages whose body is no call of a task are refused; Celery's own strategy would end the worker."""

from __future__ import annotations

from typing import Any

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default


class CheckedTask(Task[Any, Any]):
    """A task that looks at a message before Celery takes it apart."""

    Strategy = f"{__name__}:checked"


def checked(task: Any, app: Any, consumer: Any) -> Any:
    """Celery's strategy for a task, behind a look at the body."""
    handle = default(task, app, consumer)

    def on_message(message: Any, body: Any, *callbacks: Any) -> Any:
        if not _is_call(message.payload):
            raise InvalidTaskError("the body is not [args, kwargs, options]")
        return handle(message, body, *callbacks)

    return on_message


def _is_call(payload: Any) -> bool:
    """Whether it is protocol 2's triple."""
    kinds = (list, dict, dict)
    return isinstance(payload, list) and len(payload) == 3 and all(map(isinstance, payload, kinds))
