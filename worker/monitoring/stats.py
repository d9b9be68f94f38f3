"""Once a second each process reports its stats: to the fleet through Redis, to its host by a heartbeat."""

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from worker.errors import RedisUnavailable, ReelhaulError
from worker.monitoring import metrics
from worker.monitoring.heartbeat import Heartbeat

log = structlog.get_logger(__name__)

#: Redis set of processes. The stats of each are in a key of their own, which expires.
PROCESSES = "{reelhaul}:processes"
PERIOD_S = 1.0
#: Seconds over which stats are averaged.
WINDOW_S = 10.0
#: Seconds until stats expire.
LIFE_S = 5


@dataclass(frozen=True)
class ProcessStats:
    """One process' last seconds: concurrency, pages and movies saved per second, shares of its threads' time.

    `task` is the share spent on tasks, and includes the kinds before it. `cpu` is CPU time per second of wall
    time (1: one core).
    """

    concurrency: int
    saved_per_s: float
    token: float
    connection: float
    fetch: float
    store: float
    task: float
    cpu: float


class WorkerActivity:
    """What a worker's main process reports in its heartbeat."""

    def __init__(self) -> None:
        self._contact_at = time.monotonic()
        self._since: dict[str, float] = {}

    def note_contact(self) -> None:
        """Record that Celery's event loop has just reached Redis."""
        self._contact_at = time.monotonic()

    def __call__(self) -> dict[str, Any]:
        """When Celery last reached Redis, how many tasks are done, how long the oldest task has run."""
        from celery.worker import state as celery_state  # noqa: PLC0415 -- `status` imports this module too

        now = time.monotonic()
        active = {request.id for request in list(celery_state.active_requests)}
        self._since = {id_: self._since.get(id_, now) for id_ in active}
        return {
            "contact_at": self._contact_at,
            "done": celery_state.all_total_count[0] - len(active),
            "oldest_s": now - min(self._since.values(), default=now),
        }


class StatsReporter(threading.Thread):
    """Publishes this process' stats and writes `heartbeat` with what `activity` returns. Never raises.

    Without `concurrency` it publishes nothing.
    """

    def __init__(
        self,
        redis: Redis,
        concurrency: int,
        heartbeat: Heartbeat | None = None,
        activity: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        super().__init__(name="stats-reporter", daemon=True)
        self._redis, self._concurrency = redis, concurrency
        self._heartbeat, self._activity = heartbeat, activity
        samples = round(WINDOW_S / PERIOD_S) + 1
        self._samples: deque[dict[str, float]] = deque([metrics.accounting().read()], samples)

    def run(self) -> None:
        while True:
            time.sleep(PERIOD_S)
            try:
                if self._heartbeat:
                    self._heartbeat.write(**self._activity())
                if self._concurrency:
                    self._publish()
            except (OSError, RuntimeError, RedisError, ReelhaulError) as error:
                log.debug("stats not reported", reason=f"{type(error).__name__}: {error}")

    def _publish(self) -> None:
        self._samples.append(metrics.accounting().read())
        first, last = self._samples[0], self._samples[-1]
        passed_s = last["at"] - first["at"]
        spent = {name: (last[name] - first[name]) / passed_s for name in (*metrics.KINDS, "saved", "cpu")}
        stats = ProcessStats(
            concurrency=self._concurrency,
            saved_per_s=round(spent["saved"], 3),
            cpu=round(spent["cpu"], 3),
            **{kind: round(spent[kind] / self._concurrency, 4) for kind in metrics.KINDS},
        )
        process = f"{socket.gethostname()}:{os.getpid()}"
        with self._redis.pipeline() as pipeline:
            pipeline.set(_key(process), json.dumps(asdict(stats)), ex=LIFE_S)
            pipeline.sadd(PROCESSES, process)
            pipeline.execute()


def fleet_stats(redis: Redis) -> list[ProcessStats]:
    """Stats of every running process. Raises RedisUnavailable."""
    try:
        names: list[bytes] = list(redis.smembers(PROCESSES))  # type: ignore[arg-type]
        lines: list[bytes | None] = redis.mget([_key(name.decode()) for name in names]) if names else []  # type: ignore[assignment]
        gone = [name for name, line in zip(names, lines, strict=True) if line is None]
        if gone:
            redis.srem(PROCESSES, *gone)  # a process that is alive adds itself again
    except RedisError as error:
        raise RedisUnavailable(f"Redis: {type(error).__name__}: {error}") from error
    known = [field.name for field in fields(ProcessStats)]
    stats = [json.loads(line) for line in lines if line]
    return [ProcessStats(**{name: one[name] for name in known}) for one in stats]


def _key(process: str) -> str:
    return f"{{reelhaul}}:stats:{process}"
