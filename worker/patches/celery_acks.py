"""Celery 5.7 wakes its event loop for each task that ends, and then takes one message.

Here the acknowledgements of several tasks are carried out together, so that a worker takes as many messages
at once. None waits longer than WAIT_S. No worker holds more messages than it can run: Celery's solo pool
would hold as many as there were threads.
"""

from collections import deque
from functools import partial
from typing import Any

from celery.bootsteps import StartStopStep
from celery.worker.consumer.events import Events

#: Seconds that an acknowledgement waits for others.
WAIT_S = 0.25
#: Of a worker's messages, the share whose tasks have ended before it takes others.
SHARE = 4


class GatherAcks(StartStopStep):
    """The step of Celery's consumer that gathers acknowledgements; does nothing without an event loop."""

    requires = (Events,)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._waiting: deque[Any] = deque()
        consumer.initial_prefetch_count = min(consumer.initial_prefetch_count, consumer.pool.limit)
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Called whenever the consumer connects, before it creates its message handler."""
        if consumer.hub:
            enough = max(1, consumer.initial_prefetch_count // SHARE)
            consumer.call_soon_ack = partial(self._later, consumer.hub, enough)
            consumer.hub.on_close.add(self._carry_out)

    def register_with_event_loop(self, _: Any, hub: Any) -> None:
        """Called whenever the loop starts; Celery cancels the timer when it ends."""
        hub.call_repeatedly(WAIT_S, self._carry_out)

    def _later(self, hub: Any, enough: int, call: Any, *args: Any) -> None:
        """Called by threads, in place of Consumer.call_soon_ack."""
        self._waiting.append(partial(call, *args))
        if len(self._waiting) >= enough:
            hub.call_soon(self._carry_out)

    def _carry_out(self, *_: Any) -> None:
        while self._waiting:
            self._waiting.popleft()()


def install(app: Any) -> None:
    """Add the step to the app's consumers."""
    app.steps["consumer"].add(GatherAcks)
