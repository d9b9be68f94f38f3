"""A thread that listens to one Redis channel, and knows whether it may have missed a message."""

from __future__ import annotations

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

#: A channel that is silent for so long is asked whether it lives, and has as long to answer: a NAT or a
#: machine that failed may have dropped the connection without a word.
SILENT_S = 2.0
#: Seconds between two attempts to connect.
RECONNECT_S = 0.2


class GenerationListener(threading.Thread):
    """Calls `on_connect` whenever messages may have been missed, and `on_message` for each.

    Both may raise RedisUnavailable. `hearing` is true while no message can be missed.
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
        # A connection that mends itself would hide that a message may have been missed.
        once = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
        self._redis = Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **once))
        self._channel, self._on_connect, self._on_message = channel, on_connect, on_message
        self.hearing = False

    def run(self) -> None:
        while True:
            with suppress(RedisError, RedisUnavailable):
                self._follow()
            time.sleep(RECONNECT_S)

    def _follow(self) -> None:
        with self._redis.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(self._channel)
            try:
                while (message := _next(channel)) is not None:
                    if message["type"] == "subscribe":
                        self._on_connect()
                        self.hearing = True
                    elif message["type"] == "message":
                        self._on_message(message["data"])
            finally:
                self.hearing = False


def _next(channel: PubSub) -> Any:
    """The next message; None when the channel is dead."""
    message = channel.get_message(timeout=SILENT_S)
    if message is None:
        channel.ping()
        message = channel.get_message(timeout=SILENT_S)
    return message
