"""kombu 5.7's Redis transport ends the worker when Redis restarts or a queue holds junk, and wastes clients.

Each method below says which fault it fixes.
"""

import base64
from contextlib import suppress
from json import JSONDecodeError
from queue import Empty
from time import time
from typing import Any

import orjson
import structlog
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

log = structlog.get_logger(__name__)


#: Seconds after which a worker tells Redis what it has acknowledged, if it takes no message before.
ACK_S = 0.25


class QoS(kombu_redis.QoS):
    """kombu tells Redis of each acknowledgement at once: a tenth of a worker's CPU time.

    Here a worker tells it along with the next message that it takes, in the same transaction, or after ACK_S.
    If it is killed before, those messages are delivered again, like those whose tasks had not ended.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._acked: set[str] = set()

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that a message is taken."""
        delivery, acked = message.delivery_info, self._acked.copy()
        entry = _encode([message._raw, delivery["exchange"], delivery["routing_key"]])
        with self.pipe_or_acquire() as pipe:
            pipe.execute_command("ZADD", self.unacked_index_key, time(), delivery_tag)
            pipe.execute_command("HSET", self.unacked_key, delivery_tag, entry)
            self._execute(pipe, acked)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Let a worker take another message now, and tell Redis soon."""
        self._acked.add(delivery_tag)
        if self.channel._closing or not self.channel.connection.has_loop:  # type: ignore[attr-defined]
            self.flush()
        virtual.QoS.ack(self, delivery_tag)

    def flush(self) -> None:
        """Tell Redis what was acknowledged."""
        if acked := self._acked.copy():
            with self.pipe_or_acquire() as pipe:
                self._execute(pipe, acked)

    def _execute(self, pipe: Any, acked: set[str]) -> None:
        if acked:
            pipe.execute_command("ZREM", self.unacked_index_key, *acked)
            pipe.execute_command("HDEL", self.unacked_key, *acked)
        pipe.execute()
        self._acked.difference_update(acked)  # and no other: a thread may have acknowledged one meanwhile


class Channel(kombu_redis.Channel):
    """kombu's channel with these faults fixed."""

    QoS = QoS
    _shared_client: Any = None

    def close(self) -> None:
        """kombu reads the outstanding BRPOP before it cleans up, and stops there if the connection is dead.

        Celery then closes the channel again without a client, and the worker ends with "Unrecoverable error:
        AttributeError". So read the BRPOP here, without failing, before kombu does.
        """
        if self._in_poll:  # type: ignore[attr-defined] # kombu has no types
            with suppress(Empty, *self.connection_errors):  # type: ignore[attr-defined]
                self._brpop_read()
        if self._qos and not self.closed:
            with suppress(*self.connection_errors):  # type: ignore[attr-defined]
                self._qos.flush()  # type: ignore[attr-defined]
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
    #: Whether an event loop flushes acknowledgements.
    has_loop = False
    _flush_timer: Any = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        if self._flush_timer:
            self._flush_timer.cancel()
        self._flush_timer = loop.call_repeatedly(ACK_S, self._flush)
        self.has_loop = True

    def _flush(self) -> None:
        for channel in self.channels or ():
            if isinstance(channel._qos, QoS):
                channel._qos.flush()

    def _deliver(self, message: Any, queue: str | None) -> None:
        """kombu lets the worker end when a queue holds JSON that is not a message: drop it instead."""
        if _is_message(message):
            super()._deliver(message, queue)
        else:
            log.error("message rejected", reason="not a message of kombu's")


def _encode(value: Any) -> bytes | str:
    """The value as JSON: by orjson, or by kombu, ten times as slow, what orjson refuses."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return str(dumps(value))


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
