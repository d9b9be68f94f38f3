"""A whole fleet on this machine: servers, workers, beat and Flower, started and stopped together."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

from sandbox.embedded import HOST, EmbeddedServer, port_is_free
from sandbox.processes import ChildProcess, SandboxError, spawn

#: The command line, run by this interpreter.
REELHAUL = (sys.executable, "-c", "from producer.cli.main import main; main()")
#: A worker's tasks end within 30 s of SIGTERM: one request, and one attempt to store its response.
STOP_S = 50.0
#: Workers start in about two seconds on an idle machine.
READY_S = 60.0

Server = TypeVar("Server", bound=EmbeddedServer)


class Fleet:
    """Servers and processes that share one environment, with their logs in `folder`.

    Leaving its `with` block stops everything in order; kill() ends everything at once.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path, metrics_port: int = 0) -> None:
        self.environment = dict(environment)
        self.folder = folder
        #: Prometheus port of the first worker, the next worker has the next port; 0 for none.
        self.metrics_port = metrics_port
        self.servers: list[EmbeddedServer] = []
        self.processes: list[ChildProcess] = []
        self._workers = 0
        self._logs = itertools.count()

    def serve(self, server: Server, *, set_address: bool = True) -> Server:
        """Start a server and, with `set_address`, point the processes started later at it."""
        self.servers.append(server.start())
        if set_address:
            self.environment |= server.environment
        return server

    def worker(self, *options: str, module: str = "worker.app", **environment: str) -> ChildProcess:
        """Start a worker; it consumes once it has reached Redis."""
        self._workers += 1
        name = f"worker{self._workers}"
        if self.metrics_port:
            environment = {"REELHAUL_METRICS_PORT": str(self._metrics_ports()[-1]), **environment}
        command = ("worker", "-n", f"{name}@%h", "--without-gossip", "--without-mingle", *options)
        return self._celery(*command, module=module, name=name, **environment)

    def beat(self) -> ChildProcess:
        """Start celery beat."""
        return self._celery("beat", module="producer.schedule", name="beat")

    def flower(self, port: int) -> ChildProcess:
        """Start Flower on loopback, its database in `folder`; SandboxError when the port is in use."""
        if not port_is_free(port):
            raise SandboxError(
                f"port {port} is in use: stop what listens there, or choose another for Flower"
            )
        database = self.folder.resolve() / "flower.db"
        return self._celery(
            "flower",
            f"--address={HOST}",
            f"--port={port}",
            f"--db={database}",
            module="worker.app",
            name="flower",
        )

    def start(self, *argv: str, name: str = "", **environment: str) -> ChildProcess:
        """Start a process; `environment` is added to the fleet's, `name` is its log's."""
        log_path = self.folder / f"{name or next(self._logs)}.log"
        process = spawn(argv, env=self.environment | environment, log_path=log_path)
        self.processes.append(process)
        return process

    def wait_until_ready(self, workers: int) -> None:
        """Return when this many workers answer; SandboxError when a process ends, or after READY_S.

        Looks for them at the REDIS_URL of this process.
        """
        from worker.app import app  # noqa: PLC0415 -- no help of a command waits for Celery

        deadline = time.monotonic() + READY_S
        while len(app.control.ping(timeout=0.5) or ()) < workers:
            self.check()
            if time.monotonic() > deadline:
                raise SandboxError(f"{workers} workers do not answer within {READY_S:g} s; see {self.folder}")

    def check(self) -> None:
        """Raise SandboxError when a process has ended by itself."""
        for process in self.processes:
            if not process.running:
                raise SandboxError(f"{process} has ended:\n{process.log_tail()}")

    def metrics_addresses(self, host: str) -> str:
        """Where Prometheus finds the workers' metrics, on one line; empty without a metrics port."""
        return ", ".join(f"http://{host}:{port}/metrics" for port in self._metrics_ports())

    def stop(self) -> None:
        """Stop all processes with SIGTERM, then the servers, the last one first."""
        for process in self.processes:
            if process.running:
                process.send(signal.SIGTERM)
        for process in self.processes:
            process.stop(STOP_S)
        while self.servers:
            self.servers.pop().stop()

    def kill(self) -> None:
        """End everything with SIGKILL, the children of killed processes too."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        while self.servers:
            self.servers.pop().stop(grace_s=0)

    def _celery(self, *command: str, module: str, name: str, **environment: str) -> ChildProcess:
        return self.start(sys.executable, "-m", "celery", "-A", module, *command, name=name, **environment)

    def _metrics_ports(self) -> list[int]:
        return [self.metrics_port + number for number in range(self._workers) if self.metrics_port]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP as on Ctrl-C, so that the block stops what it started."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
