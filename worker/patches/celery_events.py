"""Celery 5.7 publishes task events at every turn of the event loop: a sixth of a worker's CPU time.

Here a worker publishes those of half a second in one message, the last ones before it stops.
"""

from typing import Any

from celery.bootsteps import StartStopStep
from celery.worker.consumer.events import Events

#: Seconds between two messages with task events.
FLUSH_S = 0.5
#: Events that are published without waiting: those of a worker that saves 600 pages per second.
BUFFER_LIMIT = 1_000


class FlushEvents(StartStopStep):
    """The step of Celery's consumer that publishes events; does nothing where Celery has no event loop."""

    requires = (Events,)

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """Called whenever the loop starts; Celery cancels the timer when it ends."""
        consumer.event_dispatcher.on_send_buffered = None
        consumer.event_dispatcher.buffer_limit = BUFFER_LIMIT
        hub.call_repeatedly(FLUSH_S, self._flush, consumer)

    def stop(self, consumer: Any) -> None:
        self._flush(consumer)

    def shutdown(self, consumer: Any) -> None:
        """Called when the last tasks have ended."""
        self._flush(consumer)

    @staticmethod
    def _flush(consumer: Any) -> None:
        if consumer.event_dispatcher:
            consumer.event_dispatcher.flush()


def install(app: Any) -> None:
    """Add the step to the app's consumers."""
    app.steps["consumer"].add(FlushEvents)
