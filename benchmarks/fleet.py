"""Load processes behind one gate, the emulator that they load, and the log that judges them."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis

from sandbox.processes import ChildProcess, spawn
from sandbox.servers import EmbeddedRedis, EmulatorProcess
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate

READY_S = 30.0
STOP_S = 20.0


class LoadFleet:
    """Processes of benchmarks.load with one gate of their own, their logs in `folder`."""

    def __init__(
        self, redis: EmbeddedRedis, emulator: EmulatorProcess, folder: Path, rate: str, capacity: int = 5
    ) -> None:
        self._redis, self._emulator, self._folder = redis, emulator, folder
        self._rate, self._capacity = rate, capacity
        self._gate = f"{{load:{time.monotonic_ns()}}}:gate"
        self.processes: list[ChildProcess] = []

    @contextmanager
    def gate(self) -> Iterator[Limiter]:
        """The fleet's gate, seen from here."""
        with Redis.from_url(self._redis.url) as client:
            yield Limiter(client, Rate.parse(self._rate), self._capacity, self._gate)

    def start(self, count: int = 1, *, wait: bool = True, **options: Any) -> list[ChildProcess]:
        """Start processes, each a number of its own; `wait` until their threads run."""
        begun = [self._start(len(self.processes), options) for _ in range(count)]
        if wait:
            for process in begun:
                process.wait_until(partial(_is_ready, process), READY_S)
        return begun

    def _start(self, number: int, options: dict[str, Any]) -> ChildProcess:
        argv = [sys.executable, "-m", "benchmarks.load", self._redis.url, self._emulator.base_url, self._gate]
        argv += ["--number", str(number), "--rate", self._rate, "--capacity", str(self._capacity)]
        for name, value in options.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        process = spawn(argv, log_path=self._folder / f"load{number}.log")
        self.processes.append(process)
        return process

    def output(self) -> str:
        """All that they wrote."""
        return "".join(process.log_text() for process in self.processes)

    def stop(self) -> None:
        """SIGTERM to all, then wait for each."""
        for process in self.processes:
            process.send(signal.SIGTERM)
        for process in self.processes:
            process.stop(STOP_S)

    def __enter__(self) -> LoadFleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _is_ready(process: ChildProcess) -> bool:
    return "ready" in process.log_text()


@contextmanager
def surroundings(*emulator_options: str) -> Iterator[tuple[EmbeddedRedis, EmulatorProcess, Path]]:
    """A Redis, an emulated TMDB and a folder for logs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reelhaul-load-")))
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        yield redis, stack.enter_context(EmulatorProcess("--movies", "1", *emulator_options)), folder
