"""Once a second each process says what it measured: to the fleet through Redis, to its host in a file."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from worker.errors import BrokerAway, ReelhaulError
from worker.monitoring import metrics
from worker.monitoring.heartbeat import Alive

log = structlog.get_logger(__name__)

FIGURES = "{reelhaul}:figures"
PERIOD_S = 1.0
#: Figures are means over so many seconds.
WINDOW_S = 10.0
#: Seconds after which figures count no more.
LIFE_S = 5


@dataclass(frozen=True)
class Figures:
    """One process' last seconds: slots, pages stored a second, and shares of its slots' time by kind.

    `task` is the share of time with a page at hand, the other kinds are parts of it; `cpu` is the
    processor's time by the clock's (1: one core).
    """

    slots: int
    pages_per_s: float
    gate: float
    connection: float
    fetch: float
    store: float
    task: float
    cpu: float


class Pulse(threading.Thread):
    """Publishes this process' figures, and writes its file with what `state` tells; never fails loudly."""

    def __init__(
        self,
        redis: Redis,
        slots: int,
        alive: Alive | None = None,
        state: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        super().__init__(name="pulse", daemon=True)
        self._redis, self._slots, self._alive, self._state = redis, slots, alive, state
        self._past: deque[dict[str, float]] = deque([metrics.books().read()], round(WINDOW_S / PERIOD_S) + 1)

    def run(self) -> None:
        while True:
            time.sleep(PERIOD_S)
            try:
                if self._alive:
                    self._alive.write(**self._state())
                if self._slots:
                    self._publish()
            except (OSError, RuntimeError, RedisError, ReelhaulError) as error:
                log.debug("no pulse", reason=f"{type(error).__name__}: {error}")

    def _publish(self) -> None:
        self._past.append(metrics.books().read())
        first, last = self._past[0], self._past[-1]
        passed_s = last["at"] - first["at"]
        spent = {name: (last[name] - first[name]) / passed_s for name in (*metrics.KINDS, "pages", "cpu")}
        figures = Figures(
            slots=self._slots,
            pages_per_s=round(spent["pages"], 3),
            cpu=round(spent["cpu"], 3),
            **{kind: round(spent[kind] / self._slots, 4) for kind in metrics.KINDS},
        )
        script = self._redis.register_script(_script())
        script(
            keys=[FIGURES],
            args=[f"{socket.gethostname()}:{os.getpid()}", json.dumps(asdict(figures)), LIFE_S],
        )


def fleet(redis: Redis) -> list[Figures]:
    """Figures of every process that works at this moment, in one read. Raises BrokerAway."""
    try:
        found: dict[bytes, bytes] = redis.hgetall(FIGURES)  # type: ignore[assignment]
    except RedisError as error:
        raise BrokerAway(f"Redis: {type(error).__name__}: {error}") from error
    names = [field.name for field in fields(Figures)]
    told = (json.loads(line.partition(b" ")[2]) for line in found.values())
    return [Figures(**{name: one[name] for name in names}) for one in told]


@cache
def _script() -> str:
    return files("worker").joinpath("figures.lua").read_text(encoding="utf-8")
