"""How commands reach TMDB: they check the key first."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.clients import close_api_client, limiter, tmdb_client
from worker.retry import ask
from worker.tmdb.client import TmdbClient

#: Seconds that a person waits for a token at most: the rate may be low, or the fleet paused.
PATIENCE_S = 60.0


@contextmanager
def checked_tmdb(wait_s: float = PATIENCE_S) -> Iterator[TmdbClient]:
    """A client whose key TMDB accepts; afterwards the host's connections go back to the workers.

    With a wrong key the check stops nobody else; any other request would stop the fleet. It takes `wait_s` at
    most.
    """
    try:
        client = tmdb_client()
        ask(client.check_key, wait_s)
        yield client
    finally:
        close_api_client()


def open_limiter() -> None:
    """Check the key if the limiter is stopped: an accepted key opens it."""
    if limiter().state().stopped:
        with checked_tmdb():
            pass
