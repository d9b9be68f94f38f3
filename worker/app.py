"""The Celery app: broker, queues and the rules of delivery.

Importing it reads no environment: Celery asks for the configuration when it first needs it.
"""

from typing import Any

import click
from celery import Celery
from kombu import Queue

from worker import signals  # noqa: F401 -- connects the handlers
from worker.errors import UsageError
from worker.patches import celery_acks, celery_events, celery_requests, install
from worker.settings import settings

REFRESH, REFRESH_CELLS = "refresh", "refresh_cells"
PAGES, CELLS, MOVIES = "pages", "cells", "movies"
#: In the order in which workers drain them; but movies get a share, see worker.queues.QueueOrder.
QUEUES = (REFRESH, REFRESH_CELLS, PAGES, CELLS, MOVIES)
#: Seconds until the message of a killed worker is delivered again. Well above the longest task (worker.retry:
#: TASK_S + QUARANTINE_S), so that no task runs twice; kombu checks every 10 s.
VISIBILITY_S = 100


def configuration() -> dict[str, Any]:
    """Celery's settings. Raises click.UsageError, which the `celery` command shows as one line."""
    try:
        chosen = settings()
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    return {
        "broker_url": chosen.redis_url.get_secret_value(),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # If Redis is out of memory, reconnect when a message cannot be requeued; do not end the worker.
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_S,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "priority_steps": [0],  # one list for each queue
            "queue_order_strategy": "worker.queues:QueueOrder",
            "global_keyprefix": "{reelhaul}:",
        },
        # The only place where the worker names the producer, whose schedule runs on the same workers.
        "imports": ("worker.tasks", "producer.schedule.tasks"),
        "task_queues": [Queue(queue, routing_key=queue) for queue in QUEUES],
        "task_default_queue": REFRESH,
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_send_sent_event": False,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_rate_limits": True,
        "worker_concurrency": chosen.reelhaul_concurrency,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


install()
app = Celery("reelhaul", set_as_current=True, task_cls="worker.patches.celery_strategy:CheckedTask")
celery_acks.install(app)
celery_events.install(app)
celery_requests.install()
app.add_defaults(configuration)
