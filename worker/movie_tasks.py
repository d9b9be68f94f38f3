"""The task for single movies: request one that somebody asked for, and save its details."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import structlog

from worker.app import MOVIES, app
from worker.clients import storage, tmdb_client
from worker.errors import MongoUnavailable, NotEver, Rejected
from worker.keys import LAST_MOVIE, MovieKey
from worker.monitoring.metrics import count
from worker.patches.celery_strategy import CheckedTask
from worker.queues import Message, publish
from worker.retry import Attempts, Deadlines, message_outcome, reject, retry_storage
from worker.storage.movie_requests import MovieRequest

log = structlog.get_logger(__name__)


@app.task(name="reelhaul.fetch_movie", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_movie(self: CheckedTask, movie_id: int) -> None:
    """Fetch what is requested of the movie, if anything still is.

    A movie that TMDB does not have is noted as gone.
    """
    key = _parse_key(movie_id)
    with message_outcome(key, self.request.id) as deadlines:
        request = retry_storage(lambda: storage().movie_requests.get(movie_id), deadlines.waiting)
        if request is None:
            count("details", "fresh")
            return
        try:
            _fetch_and_save(key, request, deadlines)
        except Rejected as error:
            asked_at = error.asked_at
            if not error.not_found or asked_at is None:
                raise
            retry_storage(lambda: storage().movies.tombstone([movie_id], asked_at), deadlines.task)
            log.info("movie is gone")
            count("details", "gone")
        retry_storage(lambda: storage().movie_requests.fulfil(key, request), deadlines.task)


def enqueue_movies(keys: Iterable[MovieKey], queue: str = MOVIES) -> int:
    """Enqueue requested movies; RedisUnavailable when some may not have been sent."""
    return publish(fetch_movie, (Message((key.movie_id,), key.id, queue) for key in keys))


def _fetch_and_save(key: MovieKey, request: MovieRequest, deadlines: Deadlines) -> None:
    stored = retry_storage(lambda: storage().movies.stored_parts(key.movie_id), deadlines.waiting)
    append = sorted({*request.append, *(stored or ())})
    for attempt in Attempts(key, deadlines, append):
        if retry_storage(lambda: storage().movie_requests.get(key.movie_id), deadlines.waiting) is None:
            return  # somebody else has just fetched it
        with attempt:
            answer = tmdb_client().details(key, append, deadlines.waiting)
    keep = request.details or stored is not None
    saved = retry_storage(lambda: storage().movies.save_details(key, answer, keep=keep), deadlines.task)
    log.info("movie saved", new=saved.inserted, changed=saved.changed)
    count("details", "stored")


def _parse_key(movie_id: Any) -> MovieKey:
    """The key in a message; a malformed message is rejected."""
    if type(movie_id) is int:
        if 1 <= movie_id <= LAST_MOVIE:
            return MovieKey(movie_id)
        if -LAST_MOVIE - 1 <= movie_id <= 0:
            # A page may show such an id; its request would be sent for ever.
            with suppress(MongoUnavailable):
                storage().movie_requests.remove(MovieKey(movie_id))
    reject(f"not a movie: {movie_id!r:.50}")
