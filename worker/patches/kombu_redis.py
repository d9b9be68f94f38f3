"""kombu 5.7's Redis transport ends the worker when Redis restarts or a queue holds junk, and wastes clients.

Each method below says which fault it fixes.
"""

import base64
from collections.abc import Iterable
from contextlib import suppress
from importlib.resources import files
from json import JSONDecodeError
from queue import Empty
from time import time
from typing import Any

import orjson
import redis
import structlog
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str

from worker.patches import kombu_json

log = structlog.get_logger(__name__)


#: Seconds after which a worker tells Redis what it has acknowledged, if it takes no message before.
ACK_S = 0.25


class QoS(kombu_redis.QoS):
    """kombu tells Redis of each message as it is taken and as it is acknowledged: a fifth of a worker's CPU.

    Here one script takes several messages and tells what was acknowledged before, or a timer after ACK_S.
    If the worker is killed before, those messages are delivered again, like those whose tasks had not ended.
    """

    channel: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._acked: set[str] = set()
        self._noted: set[str] = set()

    def take(self, first: bytes | str, queue: str = "", more: int = 0) -> list[bytes]:
        """Note that `first` was taken; take up to `more` messages from the queue and return them.

        In one step, so that a worker that is killed loses none of those.
        """
        acked = self._acked.copy()
        prefix = self.channel.global_keyprefix
        keys = [f"{prefix}{name}" for name in (self.unacked_index_key, self.unacked_key, queue)]
        taken: list[bytes] = self.channel.take_script(keys, [time(), more, first, *acked])
        self._acked.difference_update(acked)
        return taken

    def deliver(self, taken: Iterable[bytes], queue: str) -> None:
        """Hand the messages to their consumer; what is none is dropped."""
        for raw in taken:
            message = _decode(raw)
            tag = _tag(message)
            if tag is not None and _is_message(message):
                self._noted.add(tag)
            elif tag is not None:
                self._acked.add(tag)
            self.channel.connection._deliver(message, queue)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that a message is taken."""
        if delivery_tag in self._noted:
            self._noted.remove(delivery_tag)
        else:
            self.take(kombu_json.dumps(message._raw))
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Let a worker take another message now, and tell Redis soon."""
        self._acked.add(delivery_tag)
        if self.channel._closing or not self.channel.connection.has_loop:
            self.flush()
        virtual.QoS.ack(self, delivery_tag)

    def flush(self) -> None:
        """Tell Redis what was acknowledged."""
        if acked := self._acked.copy():
            with self.pipe_or_acquire() as pipe:
                pipe.execute_command("ZREM", self.unacked_index_key, *acked)
                pipe.execute_command("HDEL", self.unacked_key, *acked)
                pipe.execute()
            self._acked.difference_update(acked)


class Channel(kombu_redis.Channel):
    """kombu's channel with these faults fixed."""

    QoS = QoS
    # kombu has no types.
    qos: Any
    client: Any
    connection: Any
    connection_errors: tuple[type[Exception], ...]
    global_keyprefix: str
    _qos: Any
    _in_poll: Any
    _queue_cycle: Any
    _flush_brpop_reauth: Any
    _shared_client: Any = None
    _script: Any = None

    def close(self) -> None:
        """kombu reads the outstanding BRPOP before it cleans up, and stops there if the connection is dead.

        Celery then closes the channel again without a client, and the worker ends with "Unrecoverable error:
        AttributeError". So read the BRPOP here, without failing, before kombu does.
        """
        if self._in_poll:
            with suppress(Empty, *self.connection_errors):
                self._brpop_read()
        if self._qos and not self.closed:
            with suppress(*self.connection_errors):
                self._qos.flush()
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

    def take_script(self, keys: list[str], args: list[Any]) -> list[bytes]:
        """Run take.lua; kombu's own clients would prefix the first key only."""
        if self._script is None or self._script.registered_client.connection_pool is not self.pool:
            source = files("worker.patches").joinpath("take.lua").read_text(encoding="utf-8")
            self._script = redis.Redis(connection_pool=self.pool).register_script(source)
        return list(self._script(keys, args))

    def _brpop_read(self, **options: Any) -> Any:
        """kombu takes one message, and lets the worker end when a queue holds something that is not JSON.

        Here a worker with several free slots takes as many messages from that queue; junk is dropped.
        """
        free = self.qos.can_consume_max_estimate()
        if free is None:  # no worker
            return self._read_one(**options)
        try:
            found = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not found:
            raise Empty
        queue, first = bytes_to_str(found[0]), found[1]
        more = self._queue_cycle.rotate(queue, free - 1)
        self.qos.deliver([first, *self.qos.take(first, queue, more)], queue)
        return True

    def _read_one(self, **options: Any) -> Any:
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


def _decode(raw: bytes) -> Any:
    """The JSON value; None if it is not JSON."""
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(raw)
    return None


def _tag(message: Any) -> str | None:
    """The delivery tag under which the script noted the message; None if it did not."""
    with suppress(TypeError, KeyError):
        tag = message["properties"]["delivery_tag"]
        return tag if isinstance(tag, str) else None
    return None


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
