"""Signs of life of Celery's processes: what starts with them so that they can be watched."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import billiard.pool
import structlog
from celery import signals
from celery.platforms import EX_FAILURE
from celery.worker import state as celery_state
from prometheus_client.core import GaugeMetricFamily

from worker import clients as bootstrap
from worker.errors import BrokerAway, ReelhaulError, UsageError
from worker.monitoring import metrics
from worker.monitoring.breaker import breaker
from worker.monitoring.heartbeat import Alive
from worker.monitoring.run_folder import open_run_folder
from worker.monitoring.stats import Pulse
from worker.settings import settings

log = structlog.get_logger(__name__)

#: Seconds that a pool process waits for its results to be read. What is not read then is delivered again.
READ_S = 3.0
#: Seconds that "used" looks back.
USED_S = 10


class GateCollector:
    """The fleet's gate, looked at when Prometheus asks; no round trip else."""

    def collect(self) -> Iterator[Any]:
        try:
            gate = bootstrap.limiter().look()
        except BrokerAway:
            return
        for name, about, figure in (
            ("open", "1 when requests go through.", float(not gate.shut)),
            ("limit_per_second", "Requests a second that are allowed now.", gate.current_per_s),
            ("limit_used", f"Share of the configured limit used in {USED_S} s.", gate.utilisation(USED_S)),
        ):
            yield GaugeMetricFamily(f"reelhaul_gate_{name}", about, value=figure)


class _Main:
    """The main process of a worker, or beat."""

    def __init__(self) -> None:
        self.alive: Alive | None = None
        #: Where pool processes count together, when somebody asks.
        self.shared: Path | None = None
        self.heard_at = time.monotonic()
        self._since: dict[str, float] = {}

    def state(self) -> dict[str, Any]:
        """When Celery's loop last ran, pages done so far, and since when the oldest is worked on."""
        now = time.monotonic()
        active = {request.id for request in list(celery_state.active_requests)}
        self._since = {id_: self._since.get(id_, now) for id_ in active}
        return {
            "heard_at": self.heard_at,
            "done": celery_state.all_total_count[0] - len(active),
            "oldest_s": now - min(self._since.values(), default=now),
        }


_main = _Main()


def shared_folder(run_folder: Path) -> Path:
    """Through which this worker's pool processes count together."""
    # Containers share the run folder and count their processes each from 1, as in worker.monitoring.heartbeat.
    return run_folder / f"metrics-{socket.gethostname()}-{os.getpid()}"


def prepare(*, prefork: bool) -> None:
    """Open the run folder, and tell Prometheus where a port is set; UsageError when either cannot be had."""
    chosen = settings()
    folder = open_run_folder(chosen.reelhaul_run_folder)
    breaker()  # before the pool processes are forked, which share it
    if chosen.reelhaul_metrics_port:
        _main.shared = shared_folder(folder) if prefork else None
        metrics.serve(
            chosen.reelhaul_metrics_address, chosen.reelhaul_metrics_port, _main.shared, [GateCollector()]
        )


def refuse_to_start(reason: UsageError) -> NoReturn:
    """End with one line and status 2; Celery would only log an exception of a signal's receiver."""
    sys.stderr.write(f"reelhaul: {reason}\n")
    sys.exit(2)


@signals.worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    prefork = "prefork" in type(sender.pool).__module__
    _main.alive = Alive("worker", settings().reelhaul_run_folder)
    slots = 0 if prefork else int(sender.pool.limit)
    Pulse(bootstrap.redis_client(), slots, _main.alive, _main.state).start()


@signals.worker_process_init.connect
def _start_child(**_: Any) -> None:
    # A pool process that ends waits until the main one has read its results, and billiard sometimes miscounts
    # them while it shuts down: then for 30 s, three times what `docker stop` grants.
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = int(
        READ_S / billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL
    )
    metrics.join()
    Pulse(bootstrap.redis_client(), 1).start()


@signals.heartbeat_sent.connect
def _hear(**_: Any) -> None:
    _main.heard_at = time.monotonic()


@signals.worker_shutdown.connect
def _end(sender: Any, **_: Any) -> None:
    if _main.alive:
        _main.alive.remove()
    if breaker().tripped:
        sender.exitcode = EX_FAILURE
    if _main.shared:
        shutil.rmtree(_main.shared, ignore_errors=True)


@signals.beat_init.connect
def _start_beat(**_: Any) -> None:
    try:
        beat = Alive("beat", settings().reelhaul_run_folder)
    except UsageError as error:
        refuse_to_start(error)

    def write(**_: Any) -> None:
        try:
            beat.write(tick_s=settings().reelhaul_tick_s)
        except (OSError, ReelhaulError) as error:
            log.warning("no heartbeat", reason=str(error))

    write()
    signals.after_task_publish.connect(write, weak=False)
