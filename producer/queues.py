"""The producer's way to the queues. Celery is imported at the first call, so that no help waits for it.

All raise RedisUnavailable.
"""

# ruff: noqa: PLC0415 -- the imports below take a quarter of a second

from collections.abc import Iterable

from worker.keys import Fetch, Key

#: As in worker.app, whose names a test compares.
CELLS, MOVIES, REFRESH = "cells", "movies", "refresh"


def enqueue(fetches: Iterable[Fetch[Key]], queue: str = CELLS) -> int:
    """Enqueue the fetches as worker.tasks.enqueue does; returns how many."""
    from worker import tasks

    return tasks.enqueue(fetches, queue)


def lengths() -> dict[str, int]:
    """Messages waiting in each queue, and `unacked`, as worker.queues.lengths counts them."""
    from worker import queues

    return queues.lengths()


def answering_workers(timeout_s: float) -> int:
    """How many workers answer a ping within this time."""
    from worker.app import app

    return len(app.control.ping(timeout=timeout_s) or ())
