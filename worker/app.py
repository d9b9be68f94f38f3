"""The Celery app: broker, queues and the rules of delivery.

Importing it reads no environment: the configuration is made when Celery first asks for it. It only
tells Flower, should this process become that, where its configuration is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click
import structlog
from celery import Celery, signals
from kombu import Queue

from worker import clients as bootstrap
from worker import signals as signs
from worker.errors import BrokerAway, ReelhaulError, UsageError
from worker.monitoring import logs
from worker.patches import kombu_redis as transport
from worker.settings import redacted, settings

#: Drained in this order: a refresh before anything else, open cells before new ones; movies as `InTurn` says.
LANES = (transport.REFRESH, "pages", "cells", transport.MOVIES)
#: Seconds until a message that died with its worker is delivered again. Well above the longest task
#: (worker.retry.TASK_S, then GIVE_UP_S), so that nothing runs twice; with the check every 10 s, below
#: two minutes.
VISIBILITY_S = 100
#: Modules of the pools that keep the promise of late acknowledgement.
POOLS = ("thread", "prefork", "solo")
#: Seconds for the request that tells whether the key works.
REOPEN_S = 10.0

log = structlog.get_logger(__name__)


def configuration() -> dict[str, Any]:
    """Celery's settings from ours; click.UsageError, which Celery's command line shows as one line."""
    try:
        chosen = settings()
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    return {
        "broker_url": chosen.redis_url.get_secret_value(),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Redis out of memory refuses what gives a message back: connect anew, instead of ending the worker.
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_S,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "queue_order_strategy": f"{transport.__name__}:{transport.InTurn.__name__}",
            "global_keyprefix": "{reelhaul}:",
        },
        "imports": ("worker.tasks", "worker.movie_tasks", "producer.schedule.tasks"),
        "task_queues": [Queue(lane, routing_key=lane) for lane in LANES],
        "task_default_queue": LANES[0],
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_send_sent_event": False,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": chosen.reelhaul_slots,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


transport.install()
# The default of --pool. Were it a setting, Celery would take `--pool prefork` for no choice at all.
os.environ.setdefault("CELERY_WORKER_POOL", "threads")
os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flowerconfig.py")))
app = Celery("reelhaul", set_as_current=True, task_cls="worker.patches.celery_messages:CheckedTask")
app.add_defaults(configuration)


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    logs.configure(settings().reelhaul_log_level, redacted)


@signals.worker_init.connect
def _refuse_what_cannot_work(sender: Any, **_: Any) -> None:
    try:
        pool = _check_pool(sender.pool_cls)
        settings().require_key()
        signs.prepare(prefork=pool == "prefork")
    except UsageError as error:
        signs.refuse_to_start(error)


def _check_pool(pool: Any) -> str:
    module = pool if isinstance(pool, str) else pool.__module__
    name = module.partition(":")[0].rpartition(".")[2]
    if name not in POOLS:
        raise UsageError(f"pool {name}: green pools lose messages; use threads, prefork or solo")
    return name


@signals.worker_ready.connect
def _reopen(**_: Any) -> None:
    """A fleet that was stopped for its key goes on when this worker's key is right."""
    try:
        if bootstrap.limiter().look().stopped:
            bootstrap.tmdb_client().check_key(time.monotonic() + REOPEN_S)
    except ReelhaulError as error:
        log.error("the gate stays shut", reason=str(error))


@signals.worker_shutting_down.connect
def _wake_who_waits(**_: Any) -> None:
    """Slots that wait for a token give their message back: stopping takes no longer than a request."""
    bootstrap.limiter().interrupt()
    try:
        bootstrap.limiter().interrupt_children()
    except BrokerAway as error:
        log.warning("pool processes wait on", reason=str(error))
