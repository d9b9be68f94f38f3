"""Celery's signal handlers: logs, checks at start, metrics, heartbeats, an orderly stop.

Importing this module connects them.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import structlog
from celery import signals
from celery.platforms import EX_FAILURE

from worker import clients
from worker.errors import RedisUnavailable, ReelhaulError, UsageError
from worker.limiter.collector import LimiterCollector
from worker.monitoring import logs, metrics
from worker.monitoring.breaker import breaker
from worker.monitoring.heartbeat import Heartbeat
from worker.monitoring.run_folder import open_run_folder
from worker.monitoring.stats import StatsReporter, WorkerActivity
from worker.patches import billiard_pool
from worker.settings import redacted, settings

log = structlog.get_logger(__name__)

#: Modules of Celery's pools that work with late acknowledgement.
POOLS = ("thread", "prefork", "solo")
#: Seconds for the request that checks the key.
KEY_CHECK_S = 10.0


class _Main:
    """State of a worker's main process, shared by the handlers."""

    def __init__(self) -> None:
        self.activity = WorkerActivity()
        self.heartbeat: Heartbeat | None = None
        #: Where pool processes share their metrics, if the worker serves them.
        self.metrics_folder: Path | None = None


_main = _Main()


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure(settings().reelhaul_log_level, redacted)


@signals.worker_init.connect
def _check_and_prepare(sender: Any, **_: Any) -> None:
    """Before the pool is forked: check the pool and the key, open what pool processes share."""
    try:
        pool = check_pool(sender.pool_cls)
        settings().require_key()
        _prepare(prefork=pool == "prefork")
    except UsageError as error:
        exit_with(error)


def check_pool(pool: Any) -> str:
    """Return the pool's name; UsageError for a pool that loses messages."""
    module = pool if isinstance(pool, str) else pool.__module__
    name = module.partition(":")[0].rpartition(".")[2]
    if name not in POOLS:
        raise UsageError(f"pool {name}: green pools lose messages; use threads, prefork or solo")
    return str(name)


def _prepare(*, prefork: bool) -> None:
    """Open the run folder and the metrics port; UsageError when either cannot be used."""
    chosen = settings()
    folder = open_run_folder(chosen.reelhaul_run_folder)
    breaker()  # pool processes share it
    if chosen.reelhaul_metrics_port:
        _main.metrics_folder = metrics.shared_folder(folder) if prefork else None
        collectors = [LimiterCollector(clients.limiter)]
        address, port = chosen.reelhaul_metrics_address, chosen.reelhaul_metrics_port
        metrics.serve(address, port, _main.metrics_folder, collectors)


@signals.worker_ready.connect
def _start_reporting(sender: Any, **_: Any) -> None:
    prefork = "prefork" in type(sender.pool).__module__
    _main.heartbeat = Heartbeat("worker", settings().reelhaul_run_folder)
    concurrency = 0 if prefork else int(sender.pool.limit)  # pool processes report for themselves
    StatsReporter(clients.redis_client(), concurrency, _main.heartbeat, _main.activity).start()


@signals.worker_ready.connect
def _check_key_again(**_: Any) -> None:
    """If the limiter is stopped because a key was rejected, start it again when this worker's key works."""
    try:
        if clients.limiter().state().stopped:
            clients.tmdb_client().check_key(time.monotonic() + KEY_CHECK_S)
    except ReelhaulError as error:
        log.error("limiter still stopped", reason=str(error))


@signals.worker_process_init.connect
def _start_reporting_in_pool_process(**_: Any) -> None:
    billiard_pool.install()
    metrics.join()
    StatsReporter(clients.redis_client(), 1).start()


@signals.heartbeat_sent.connect
def _note_activity(**_: Any) -> None:
    _main.activity.note_contact()


@signals.worker_shutting_down.connect
def _wake_waiting_tasks(**_: Any) -> None:
    """End the waits for tokens: those tasks requeue their messages, so stopping takes at most a request."""
    clients.limiter().interrupt()
    try:
        clients.limiter().interrupt_children()
    except RedisUnavailable as error:
        log.warning("pool processes not interrupted", reason=str(error))


@signals.worker_shutdown.connect
def _clean_up(sender: Any, **_: Any) -> None:
    if _main.heartbeat:
        _main.heartbeat.remove()
    if breaker().tripped:
        sender.exitcode = EX_FAILURE
    if _main.metrics_folder:
        shutil.rmtree(_main.metrics_folder, ignore_errors=True)


@signals.beat_init.connect
def _start_beat_heartbeat(**_: Any) -> None:
    try:
        beat = Heartbeat("beat", settings().reelhaul_run_folder)
    except UsageError as error:
        exit_with(error)

    def write(**_: Any) -> None:
        try:
            beat.write(tick_s=settings().reelhaul_tick_s)
        except (OSError, ReelhaulError) as error:
            log.warning("heartbeat not written", reason=str(error))

    write()
    signals.after_task_publish.connect(write, weak=False)


def exit_with(reason: object) -> NoReturn:
    """Exit with one line and status 2; Celery would log an exception of a signal handler and go on."""
    sys.stderr.write(f"reelhaul: {reason}\n")
    sys.exit(2)
