"""What the fleet runs for single movies: ask TMDB for one that is wanted, and store what it says."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from worker.app import app
from worker.clients import movies, tmdb_client
from worker.errors import NotEver, Rejected, StoreAway
from worker.keys import LAST_MOVIE, MovieKey
from worker.monitoring.metrics import count
from worker.patches.celery_messages import CheckedTask
from worker.patches.kombu_redis import MOVIES
from worker.queues import Message, publish
from worker.retry import Deadlines, fetch, refuse, while_away, working_on
from worker.storage.movies import Wanted

log = structlog.get_logger(__name__)


@app.task(name="reelhaul.fetch_movie", base=CheckedTask, bind=True, throws=(NotEver,))
def fetch_movie(self: CheckedTask, movie_id: int) -> None:
    """Fetch the movie as the list of what is wanted says; nothing when it is not on it (any more).

    A movie that TMDB does not have is marked as gone.
    """
    if not _is_id(movie_id):
        if type(movie_id) is int and -LAST_MOVIE - 1 <= movie_id <= 0:
            # A page may show such an id; on the list for ever, it would be sent for ever.
            with suppress(StoreAway):
                movies().drop(MovieKey(movie_id))
        refuse(f"not a movie: {movie_id!r:.50}")
    key = MovieKey(movie_id)
    with working_on(key, self.request.id) as deadlines:
        row = while_away(partial(movies().wanted, movie_id), deadlines.waiting)
        if row is None:
            count("pages", "fresh")
            return
        try:
            _obtain(key, row, deadlines)
        except Rejected as refusal:
            if not refusal.not_found or refusal.asked_at is None:
                raise
            while_away(partial(movies().gone, [movie_id], refusal.asked_at), deadlines.task)
            log.info("gone")
        while_away(partial(movies().done, key, row), deadlines.task)


def send_movies(keys: Iterable[MovieKey], lane: str = MOVIES) -> int:
    """Enqueue movies that are on the list; BrokerAway when some may not have been sent."""
    return publish(fetch_movie, (Message((key.movie_id,), key.id, lane) for key in keys))


def _obtain(key: MovieKey, row: Wanted, deadlines: Deadlines) -> None:
    stored = while_away(partial(movies().parts, key.movie_id), deadlines.waiting)
    append = sorted({*row.append, *(stored or ())})
    ask = partial(tmdb_client().details, key, append)
    answer = fetch(ask, lambda: movies().wanted(key.movie_id) is None, deadlines, key, append)
    if answer is None:
        return
    save = partial(movies().save, key, answer, details=row.details or stored is not None)
    saved = while_away(save, deadlines.task)
    log.info("stored", new=saved.inserted, changed=saved.changed)
    count("pages", "stored")


def _is_id(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LAST_MOVIE
