"""A thread subscribed to one Redis channel, which notices when it may have missed a message."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.errors import RedisUnavailable

#: A channel silent for this long gets a PING, and as long again to answer: a NAT or a failed machine may have
#: dropped the connection without closing it.
SILENT_S = 2.0
#: Seconds between two attempts to connect.
RECONNECT_S = 0.2


class GenerationListener(threading.Thread):
    """Calls `on_connect` whenever messages may have been missed, and `on_message` for each.

    Both may raise RedisUnavailable. `subscribed` is true while no message can be missed.
    """

    def __init__(
        self,
        redis: Redis,
        channel: str,
        on_connect: Callable[[], None],
        on_message: Callable[[bytes], None],
    ) -> None:
        super().__init__(name="generation-listener", daemon=True)
        pool = redis.connection_pool
        # A connection that reconnects by itself would hide a missed message.
        once = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
        self._redis = Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **once))
        self._channel, self._on_connect, self._on_message = channel, on_connect, on_message
        self.subscribed = False

    def run(self) -> None:
        while True:
            with suppress(RedisError, RedisUnavailable):
                self._receive()
            time.sleep(RECONNECT_S)

    def _receive(self) -> None:
        with self._redis.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(self._channel)
            try:
                while (message := _next(channel)) is not None:
                    if message["type"] == "subscribe":
                        self._on_connect()
                        self.subscribed = True
                    elif message["type"] == "message":
                        self._on_message(message["data"])
            finally:
                self.subscribed = False


def _next(channel: PubSub) -> Any:
    """The next message; None when the connection is dead."""
    message = channel.get_message(timeout=SILENT_S)
    if message is None:
        channel.ping()
        message = channel.get_message(timeout=SILENT_S)
    return message
