"""kombu 5.7's Redis transport ends the worker when Redis restarts or a queue holds junk, and wastes clients.

Each method below says which fault it fixes.
"""

import base64
from contextlib import suppress
from json import JSONDecodeError
from queue import Empty
from typing import Any

import structlog
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

log = structlog.get_logger(__name__)


class Channel(kombu_redis.Channel):
    """kombu's channel with these faults fixed."""

    _shared_client: Any = None

    def close(self) -> None:
        """kombu reads the outstanding BRPOP before it cleans up, and stops there if the connection is dead.

        Celery then closes the channel again without a client, and the worker ends with "Unrecoverable error:
        AttributeError". So read the BRPOP here, without failing, before kombu does.
        """
        if self._in_poll:  # type: ignore[attr-defined] # kombu has no types
            with suppress(Empty, *self.connection_errors):  # type: ignore[attr-defined]
                self._brpop_read()
        super().close()

    def _create_client(self, asynchronous: bool = False) -> Any:
        """kombu builds a client for each acknowledgement, which costs an eighth of a worker's CPU time.

        One client does for all: it takes a connection from the pool for each command and is thread-safe.
        """
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._shared_client is None or self._shared_client.connection_pool is not self.pool:
            self._shared_client = super()._create_client()  # type: ignore[misc]
        return self._shared_client

    def _brpop_read(self, **options: Any) -> Any:
        """kombu lets the worker end when a queue holds something that is not JSON: drop it instead."""
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (JSONDecodeError, UnicodeDecodeError) as error:
            log.error("message rejected", reason=f"not JSON: {type(error).__name__}")
            return True


class Transport(kombu_redis.Transport):
    """kombu's Redis transport with this channel."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        """kombu lets the worker end when a queue holds JSON that is not a message: drop it instead."""
        if _is_message(message):
            super()._deliver(message, queue)
        else:
            log.error("message rejected", reason="not a message of kombu's")


def _is_message(message: Any) -> bool:
    """Whether it has what kombu reads unchecked."""
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
    """Make this the transport of `redis://` and `rediss://`. Flower needs the URL to keep its scheme."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
