"""The queues: messages in, and how many wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from celery import Task
from kombu import exceptions as kombu_errors
from redis.exceptions import RedisError

from worker.app import LANES, app
from worker.errors import BrokerAway

#: How kombu fails; the stubs are older than 5.7, which has all. It does not translate all that Redis refuses.
FAILURES = (kombu_errors.OperationalError, kombu_errors.BatchPublishError, RedisError)  # type: ignore[attr-defined]
#: Messages in one round trip to the broker.
SENT_AT_ONCE = 500


class Message(NamedTuple):
    """A call of a task: scalars, the words for a person, the lane."""

    args: tuple[str | int, ...]
    words: str
    lane: str


def publish(task: Task[Any, Any], messages: Iterable[Message]) -> int:
    """Enqueue the messages, and say how many. Raises BrokerAway when some may not have been sent."""
    sent = 0
    try:
        with app.producer_or_acquire() as producer, producer.batch(max_size=SENT_AT_ONCE):
            for message in messages:
                task.apply_async(  # type: ignore[call-arg] # the stubs lack argsrepr
                    args=message.args,
                    queue=message.lane,
                    producer=producer,
                    argsrepr=message.words,
                    kwargsrepr="",
                )
                sent += 1
    except FAILURES as error:
        raise BrokerAway(f"Redis: not all of {sent} messages may be queued: {error}") from error
    return sent


def queued() -> dict[str, int]:
    """Messages in each lane, and `unacked`: with a worker at this moment. Raises BrokerAway."""
    try:
        with app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            lengths = {lane: int(channel._size(lane)) for lane in LANES}
            with channel.conn_or_acquire() as client:
                return {**lengths, "unacked": int(client.hlen(channel.unacked_key))}
    except FAILURES as error:
        raise BrokerAway(f"Redis: {error}") from error
