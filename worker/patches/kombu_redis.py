"""kombu's Redis transport, mended: a worker that loses Redis while it is partly busy lives on.

kombu 5.7's `Channel.close()` reads the outstanding BRPOP first; on a dead connection that raises
before anything is cleaned up, Celery closes a second time without a client, and the worker exits with
"Unrecoverable error: AttributeError". Here the outstanding BRPOP is read, and its failure forgiven,
before the original runs.

And what somebody else put into a queue, and is no message, is dropped; kombu's own ends the worker with it.
"""

from __future__ import annotations

import base64
from json import JSONDecodeError
from queue import Empty
from typing import Any

import structlog
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

log = structlog.get_logger(__name__)


class Channel(kombu_redis.Channel):
    """kombu's channel whose `close` survives a connection that is gone, with one client for its pool."""

    _pooled: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """kombu makes a client for each acknowledgement: an eighth of a worker's work, and none of it needed.

        A client of a pool holds no connection of its own and is safe for threads.
        """
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._pooled is None or self._pooled.connection_pool is not self.pool:
            self._pooled = super()._create_client()  # type: ignore[misc]
        return self._pooled

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (JSONDecodeError, UnicodeDecodeError) as error:
            log.error("message refused", reason=f"not JSON: {type(error).__name__}")
            return True

    def close(self) -> None:
        # kombu ships no types: mypy sees neither attribute.
        if self._in_poll:  # type: ignore[has-type]
            try:
                self._brpop_read()
            except (Empty, *self.connection_errors):  # type: ignore[attr-defined]
                # Nothing came, or nothing can come: the connection is given up either way.
                self._in_poll = None
        super().close()


class Transport(kombu_redis.Transport):
    """kombu's Redis transport with the mended channel."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        if _is_message(message):
            super()._deliver(message, queue)
        else:
            log.error("message refused", reason="not a message of kombu's")


def _is_message(message: Any) -> bool:
    """Whether it has what kombu takes for granted."""
    if not isinstance(message, dict) or not isinstance(message.get("properties"), dict):
        return False
    properties = message["properties"]
    return (
        isinstance(message.get("headers"), dict)
        and isinstance(properties.get("delivery_tag"), str)
        and isinstance(properties.get("delivery_info"), dict)
        and properties.get("body_encoding") == "base64"
        and _is_base64(message.get("body"))
    )


def _is_base64(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(base64.b64decode(text))
    except ValueError:
        return False


def install() -> None:
    """Make `redis://` and `rediss://` mean the mended transport; the scheme stays, as Flower needs it."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
