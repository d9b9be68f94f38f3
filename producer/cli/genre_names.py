"""TMDB's names of genres: stored, and requested again when they are missing or old."""

from collections.abc import Mapping
from datetime import timedelta

import typer

from producer.cli.tmdb import checked_tmdb
from worker.clients import storage
from worker.errors import ReelhaulError
from worker.retry import ask
from worker.settings import redacted, settings
from worker.tmdb.client import TmdbClient

#: Names of genres change once in years: request them again when they are older.
GENRES_AGE = timedelta(days=30)
#: Seconds that a command which only shows what is stored waits for the names.
SHORT_PATIENCE_S = 5.0


def current_genres() -> dict[int, str]:
    """The genres that TMDB has now, names by id: for planning. Raises what a request raises, UsageError."""
    names = _fresh()
    if not names:
        with checked_tmdb() as tmdb:
            _request(tmdb)
        names = _fresh()
    return names


def known_genres(tmdb: TmdbClient | None = None) -> dict[int, str]:
    """Every genre known, names by id: for showing what is stored. Raises MongoUnavailable only.

    Without a key, or while TMDB does not answer, what is stored has to do; one line on stderr says why, but
    not that there is no key. `tmdb`: a client whose key was checked, if the caller has one.
    """
    if settings().key is not None and not _fresh():
        try:
            if tmdb:
                _request(tmdb, SHORT_PATIENCE_S)
            else:
                with checked_tmdb(SHORT_PATIENCE_S) as checked:
                    _request(checked, SHORT_PATIENCE_S)
        except ReelhaulError as error:
            typer.echo(redacted(f"names of genres are not up to date: {error}"), err=True)
    return storage().genres.names()


def genre_name(id_: int, names: Mapping[int, str]) -> str:
    """Its name, or `genre 28` when that is not known."""
    return names.get(id_, f"genre {id_}")


def _fresh() -> dict[int, str]:
    return storage().genres.names(storage().mongo.now() - GENRES_AGE)


def _request(tmdb: TmdbClient, wait_s: float | None = None) -> None:
    at = storage().mongo.now()
    storage().genres.save(ask(tmdb.genres, wait_s), at)
