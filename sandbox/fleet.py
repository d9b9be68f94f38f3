"""Workers, beat and Flower as processes of this machine, stopped together."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sandbox.embedded import HOST, port_is_free
from sandbox.processes import ChildProcess, SandboxError, spawn
from worker.app import app

#: A worker's tasks end within 30 s of its being asked to stop: a request, and a try to store what it brought.
#: Waiting ones end at once.
STOP_S = 50.0
#: Seconds for workers to start; they take about two on an idle machine.
READY_S = 60.0


class Fleet:
    """Celery processes with one environment, their logs in `folder`; stops them all when it is left.

    With a metrics port its first worker answers Prometheus there, each further one at the next port.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path, metrics_port: int = 0) -> None:
        self._environment, self._folder = dict(environment), folder
        self._metrics_port = metrics_port
        self.processes: list[ChildProcess] = []
        self.metrics_ports: list[int] = []
        self._numbers = itertools.count(1)

    def worker(self, *options: str) -> ChildProcess:
        """Start one worker; it consumes as soon as it has reached Redis."""
        number = next(self._numbers)
        name = f"worker{number}"
        own: dict[str, str] = {}
        if self._metrics_port:
            self.metrics_ports.append(self._metrics_port + number - 1)
            own["REELHAUL_METRICS_PORT"] = str(self.metrics_ports[-1])
        quick = ("--without-gossip", "--without-mingle")
        return self._start(name, "worker.app", "worker", "-n", f"{name}@%h", *quick, *options, **own)

    def beat(self) -> ChildProcess:
        """Start the one that says every minute that something may be due."""
        return self._start("beat", "producer.schedule", "beat")

    def flower(self, port: int) -> ChildProcess:
        """Start Flower on loopback, its memory in the folder; SandboxError when the port is taken."""
        if not port_is_free(port):
            raise SandboxError(
                f"port {port} is in use: stop what listens there, or choose another for Flower"
            )
        options = (f"--address={HOST}", f"--port={port}", f"--db={self._folder.resolve() / 'flower.db'}")
        return self._start("flower", "worker.app", "flower", *options)

    def wait_until_ready(self, workers: int) -> None:
        """Return when so many workers answer; SandboxError when one ends, or after READY_S."""
        until = time.monotonic() + READY_S
        while len(app.control.ping(timeout=0.5) or ()) < workers:
            self.check()
            if time.monotonic() > until:
                raise SandboxError(
                    f"{workers} workers do not answer within {READY_S:g} s; see {self._folder}"
                )

    def check(self) -> None:
        """Raise SandboxError when one of them has ended by itself."""
        for process in self.processes:
            if not process.running:
                raise SandboxError(f"{process} has ended:\n{process.log_tail()}")

    def stop(self) -> None:
        """SIGTERM to all, then wait for each."""
        for process in self.processes:
            if process.running:
                process.send(signal.SIGTERM)
        for process in self.processes:
            process.stop(STOP_S)

    def metrics(self, address: str) -> str:
        """Where Prometheus asks its workers, as one line; "" when nowhere."""
        return ", ".join(f"http://{address}:{port}/metrics" for port in self.metrics_ports)

    def _start(self, name: str, app: str, *command: str, **own: str) -> ChildProcess:
        argv = [sys.executable, "-m", "celery", "-A", app, *command]
        process = spawn(argv, env=self._environment | own, log_path=self._folder / f"{name}.log")
        self.processes.append(process)
        return process

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM, or a terminal that closes, ends the block as Ctrl-C does: what it started is stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
