"""kombu's Redis transport, mended: a worker that loses Redis while it is partly busy lives on.

kombu 5.7's `Channel.close()` reads the outstanding BRPOP first; on a dead connection that raises
before anything is cleaned up, Celery closes a second time without a client, and the worker exits with
"Unrecoverable error: AttributeError". Here the outstanding BRPOP is read, and its failure forgiven,
before the original runs.
"""

from __future__ import annotations

from queue import Empty

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis


class Channel(kombu_redis.Channel):
    """kombu's channel whose `close` survives a connection that is gone."""

    def close(self) -> None:
        # kombu ships no types: mypy sees neither attribute.
        if self._in_poll:  # type: ignore[has-type]
            try:
                self._brpop_read()  # type: ignore[attr-defined]
            except (Empty, *self.connection_errors):  # type: ignore[attr-defined]
                # Nothing came, or nothing can come: the connection is given up either way.
                self._in_poll = None
        super().close()


class Transport(kombu_redis.Transport):
    """kombu's Redis transport with the mended channel."""

    Channel = Channel


def install() -> None:
    """Make `redis://` and `rediss://` mean the mended transport; the scheme stays, as Flower needs it."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
