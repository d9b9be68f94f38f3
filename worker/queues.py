"""The queues: publish messages, count them, decide which queue a worker takes the next message from."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from celery import Task
from kombu import exceptions as kombu_errors
from redis.exceptions import RedisError

from worker.app import MOVIES, QUEUES, REFRESH, REFRESH_CELLS, app
from worker.errors import RedisUnavailable

#: What kombu raises, which includes some errors of redis-py. The stubs are older than kombu 5.7.
FAILURES = (kombu_errors.OperationalError, kombu_errors.BatchPublishError, RedisError)  # type: ignore[attr-defined]
#: Messages sent in one round trip.
PUBLISH_BATCH = 500
#: The header of a message that names the request which it belongs to.
REQUEST = "reelhaul_request"
#: While pages and movies wait, every fourth message that a worker takes is a movie's.
MOVIE_SHARE = 4


class Message(NamedTuple):
    """A call of a task: its arguments (JSON scalars), the label that Flower shows, the queue."""

    task: Task[Any, Any]
    args: tuple[Any, ...]
    label: str
    queue: str
    #: The id of the request that it belongs to, if to any.
    request: str = ""


def publish(messages: Iterable[Message]) -> int:
    """Enqueue the messages and return how many; RedisUnavailable when some may not have been sent."""
    sent = 0
    try:
        with app.producer_or_acquire() as producer, producer.batch(max_size=PUBLISH_BATCH):
            for message in messages:
                message.task.apply_async(  # type: ignore[call-arg] # the stubs lack argsrepr
                    args=message.args,
                    queue=message.queue,
                    producer=producer,
                    argsrepr=message.label,
                    kwargsrepr="",
                    headers={REQUEST: message.request} if message.request else {},
                )
                sent += 1
    except FAILURES as error:
        raise RedisUnavailable(f"Redis: not all of {sent} messages may be queued: {error}") from error
    return sent


def lengths() -> dict[str, int]:
    """Messages waiting in each queue, and `unacked`: those that workers hold. Raises RedisUnavailable."""
    try:
        with app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            found = {queue: int(channel._size(queue)) for queue in QUEUES}
            with channel.conn_or_acquire() as client:
                return {**found, "unacked": int(client.hlen(channel.unacked_key))}
    except FAILURES as error:
        raise RedisUnavailable(f"Redis: {error}") from error


class QueueOrder:
    """kombu's `queue_order_strategy`: strict order, except that every MOVIE_SHARE-th message is a movie's.

    So a backfill does not wait for a million movies requested before it, nor they for a long backfill.
    """

    def __init__(self) -> None:
        self._queues: list[str] = []
        self._since_movie = 0

    def update(self, queues: Iterable[str]) -> None:
        """Set the queues to consume, in strict order."""
        self._queues = list(queues)

    def consume(self, number: int) -> list[str]:
        """The queues in the order in which to look for the next message."""
        queues = self._queues[:number]
        if self._since_movie >= MOVIE_SHARE - 1 and MOVIES in queues:
            return sorted(queues, key=lambda queue: (queue not in {REFRESH, REFRESH_CELLS}, queue != MOVIES))
        return queues

    def rotate(self, last_used: str, free: int = 0) -> int:
        """Note that a message came from that queue; return how many more to take from it, at most `free`."""
        was_movies_turn = self._since_movie >= MOVIE_SHARE - 1
        if last_used == MOVIES:
            self._since_movie = 0
            return 0 if was_movies_turn else free
        more = free if was_movies_turn else min(free, MOVIE_SHARE - 2 - self._since_movie)
        self._since_movie += 1 + more
        return more
