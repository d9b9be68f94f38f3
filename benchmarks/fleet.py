"""Load processes that share one limiter, and the emulated TMDB that they load."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from sandbox.fleet import READY_S, Fleet
from sandbox.processes import ChildProcess
from sandbox.servers import EmbeddedRedis, EmulatorProcess
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate


class LoadFleet:
    """Processes of benchmarks.load with a limiter of their own, their logs in `folder`."""

    def __init__(
        self, redis: EmbeddedRedis, emulator: EmulatorProcess, folder: Path, rate: str, capacity: int = 5
    ) -> None:
        self._redis, self._emulator, self._rate, self._capacity = redis, emulator, rate, capacity
        self._key = f"{{load:{time.monotonic_ns()}}}:limiter"
        self._fleet = Fleet(os.environ, folder)

    @property
    def processes(self) -> list[ChildProcess]:
        return self._fleet.processes

    @contextmanager
    def limiter(self) -> Iterator[Limiter]:
        """A client of the fleet's limiter."""
        with Redis.from_url(self._redis.url) as client:
            yield Limiter(client, Rate.parse(self._rate), self._capacity, self._key)

    def start(self, count: int = 1, *, wait: bool = True, **options: Any) -> list[ChildProcess]:
        """Start processes with these options of benchmarks.load; with `wait`, return when they are ready."""
        started = [self._start(len(self.processes), options) for _ in range(count)]
        for process in started if wait else ():
            process.wait_until(lambda process=process: "ready" in process.log_text(), READY_S)  # type: ignore[misc]
        return started

    def _start(self, number: int, options: dict[str, Any]) -> ChildProcess:
        argv = [sys.executable, "-m", "benchmarks.load", self._redis.url, self._emulator.base_url, self._key]
        argv += ["--number", str(number), "--rate", self._rate, "--capacity", str(self._capacity)]
        for name, value in options.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        return self._fleet.start(*argv, name=f"load{number}")

    def stop(self) -> None:
        """Send SIGTERM to all, then wait for each."""
        self._fleet.stop()

    def __enter__(self) -> LoadFleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def servers(*emulator_options: str) -> Iterator[tuple[EmbeddedRedis, EmulatorProcess, Path]]:
    """A Redis, an emulated TMDB and a folder for logs."""
    with (
        tempfile.TemporaryDirectory(prefix="reelhaul-load-") as folder,
        EmbeddedRedis(appendonly=False) as redis,
        EmulatorProcess("--movies", "1", *emulator_options) as emulator,
    ):
        yield redis, emulator, Path(folder)
