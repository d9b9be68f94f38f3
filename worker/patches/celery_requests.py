"""Celery 5.7 ends a worker that loses Redis just while a thread of its pool ends a task.

It then iterates over its requests, a set that the thread changes: "Unrecoverable error: RuntimeError".
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from celery.worker import state


class RequestSet(WeakSet[Any]):
    """A set that threads may change while it is iterated over."""

    def __iter__(self) -> Iterator[Any]:
        for reference in self.data.copy():  # type: ignore[attr-defined] # the weak references; copied in one step
            request = reference()
            if request is not None:
                yield request


def install() -> None:
    """Change the class of Celery's sets, of which its modules already hold references."""
    for requests in (state.reserved_requests, state.active_requests):
        requests.__class__ = RequestSet
