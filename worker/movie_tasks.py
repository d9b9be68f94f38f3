"""The task for single movies: fetch the details of one that was requested, and save them."""

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
    """Fetch what is still requested of the movie; mark it as gone if TMDB does not have it.

    A quarantined movie fails the task with NotEver.
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
            requested_at = error.requested_at
            if not error.not_found or requested_at is None:
                raise
            retry_storage(lambda: storage().movies.tombstone([movie_id], requested_at), deadlines.task)
            log.info("movie is gone")
            count("details", "gone")
        retry_storage(lambda: storage().movie_requests.fulfil(key, request), deadlines.task)


def enqueue_movies(keys: Iterable[MovieKey], queue: str = MOVIES) -> int:
    """Enqueue the movies and return how many. Raises RedisUnavailable when some may not have been sent."""
    return publish(fetch_movie, (Message((key.movie_id,), key.id, queue) for key in keys))


def _fetch_and_save(key: MovieKey, request: MovieRequest, deadlines: Deadlines) -> None:
    stored = retry_storage(lambda: storage().movies.stored_parts(key.movie_id), deadlines.waiting)
    append = sorted({*request.append, *(stored or ())})
    for attempt in Attempts(key, deadlines, append):
        if retry_storage(lambda: storage().movie_requests.get(key.movie_id), deadlines.waiting) is None:
            return  # another thread has just fetched it
        with attempt:
            answer = tmdb_client().details(key, append, deadlines.waiting)
    keep = request.details or stored is not None
    saved = retry_storage(lambda: storage().movies.save_details(key, answer, keep=keep), deadlines.task)
    log.info("movie saved", new=saved.inserted, changed=saved.changed)
    count("details", "stored")


def _parse_key(movie_id: Any) -> MovieKey:
    """Return the message's key, or reject the message."""
    if type(movie_id) is int and 1 <= movie_id <= LAST_MOVIE:
        return MovieKey(movie_id)
    if type(movie_id) is int and -LAST_MOVIE - 1 <= movie_id <= 0:
        # A page may contain such an id. Without this, the sweep would enqueue it again and again.
        with suppress(MongoUnavailable):
            storage().movie_requests.remove(MovieKey(movie_id))
    return reject(f"not a movie: {movie_id!r:.50}")
