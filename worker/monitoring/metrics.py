"""What this process measures of its own work: for `reelhaul status`, and for Prometheus where asked to."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, multiprocess, start_http_server, values
from prometheus_client import Counter as PrometheusCounter

from worker.errors import UsageError

#: What a task's time goes into; `task` is all of it.
KINDS = ("token", "connection", "fetch", "store", "task")
#: Bucket bounds in seconds: fetches around TMDB's 150 ms, stores around 5 ms, waits up to a task's 30 s.
BUCKETS = {
    "token": (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
    "connection": (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
    "fetch": (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 4, 8, 12),
    "store": (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 5, 20),
    "task": (0.01, 0.1, 0.2, 0.3, 0.5, 1, 3, 10, 30, 56),
}
COUNTED = {
    "requests": ("Requests to TMDB by HTTP status; error: no whole response.", "status"),
    "pages": ("Pages by outcome: stored, fresh or quarantined.", "outcome"),
    "details": ("Single movies by outcome: stored, fresh, gone or quarantined.", "outcome"),
    "movies": ("Movies on stored pages: new, changed or unchanged.", "change"),
    "quarantined": ("Pages and movies that went into quarantine, by class.", "class"),
}


class TimeAccounting:
    """Seconds spent by kind, what is still being spent included; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: Counter[str] = Counter()
        self._open: dict[object, tuple[str, float]] = {}
        self.pages = 0

    def begin(self, kind: str) -> object:
        ticket = object()
        with self._lock:
            self._open[ticket] = (kind, time.monotonic())
        return ticket

    def end(self, ticket: object) -> float:
        """Seconds since the ticket's `begin`."""
        with self._lock:
            kind, begun = self._open.pop(ticket)
            took_s = time.monotonic() - begun
            self._spent[kind] += took_s  # type: ignore[assignment] # counts seconds
        return took_s

    def read(self) -> dict[str, float]:
        """Seconds so far by kind, the pages stored, and the processor's seconds."""
        with self._lock:
            now, spent = time.monotonic(), dict.fromkeys(KINDS, 0.0) | dict(self._spent)
            for kind, begun in self._open.values():
                spent[kind] += now - begun
        return {**spent, "pages": self.pages, "cpu": time.process_time(), "at": now}


class PrometheusMetrics:
    """The same, and counts, as Prometheus wants them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = {
            kind: Histogram(
                f"reelhaul_{kind}_seconds",
                f"Seconds that a task spent: {kind}.",
                registry=self.registry,
                buckets=BUCKETS[kind],
            )
            for kind in KINDS
        }
        self._counts = {
            name: PrometheusCounter(f"reelhaul_{name}", about, [label], registry=self.registry)
            for name, (about, label) in COUNTED.items()
        }

    def observe(self, kind: str, took_s: float) -> None:
        self._seconds[kind].observe(took_s)

    def count(self, name: str, label: str, number: int) -> None:
        self._counts[name].labels(label).inc(number)


class _Process:
    """What this process has: new after a fork."""

    def __init__(self) -> None:
        self.accounting = TimeAccounting()
        self.prometheus: PrometheusMetrics | None = None


_process = _Process()
_server: Any = None


@contextmanager
def spent(kind: str) -> Iterator[None]:
    """Count the block's time as spent on `kind`."""
    mine = _process
    ticket = mine.accounting.begin(kind)
    try:
        yield
    finally:
        took_s = mine.accounting.end(ticket)
        if mine.prometheus:
            mine.prometheus.observe(kind, took_s)


def count(name: str, label: object, number: int = 1) -> None:
    """Count something that COUNTED names."""
    if name == "pages" and label == "stored":
        _process.accounting.pages += (
            number  # a figure for a person: a count lost between threads does no harm
        )
    if _process.prometheus and number:
        _process.prometheus.count(name, str(label), number)


def accounting() -> TimeAccounting:
    """This process' own time accounting."""
    return _process.accounting


def serve(address: str, port: int, shared: Path | None, more: Iterable[Any]) -> None:
    """Let Prometheus ask at the port; UsageError when it is taken.

    `shared`: a folder through which pool processes count together; `more`: collectors of what is
    looked up when asked.
    """
    global _server
    registry = CollectorRegistry()
    if shared:
        share(shared)
        multiprocess.MultiProcessCollector(registry, path=str(shared))  # type: ignore[no-untyped-call]
    else:
        _process.prometheus = PrometheusMetrics()
        registry = _process.prometheus.registry
    for collector in more:
        registry.register(collector)
    try:
        _server, _ = start_http_server(port, address, registry)
    except OSError as error:
        raise UsageError(f"REELHAUL_METRICS_PORT {port}: cannot listen there: {error.strerror}") from None


def shared_folder(run_folder: Path) -> Path:
    """Where this worker's pool processes count together."""
    # Containers share the run folder and number their processes from 1 each: the host tells them apart.
    return run_folder / f"metrics-{socket.gethostname()}-{os.getpid()}"


def share(folder: Path) -> None:
    """Count in files in `folder`, for the process that serves them; UsageError when it cannot be made."""
    shutil.rmtree(folder, ignore_errors=True)  # of a worker that was killed, and had the same name and pid
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise UsageError(
            f"REELHAUL_RUN_FOLDER {folder.parent}: cannot be used for metrics: {error.strerror}"
        ) from None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    # Chosen when the library was imported, long before the pool is known: Flower's plugin does that.
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def join() -> None:
    """In a pool process: count too, if anybody asks."""
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        # A cleaner of /tmp may have been here since the worker started.
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        _process.prometheus = PrometheusMetrics()


def forget() -> None:
    """In a fork: what the parent counted and listens on is its own."""
    global _process, _server  # noqa: PLW0603 -- one a process
    _process = _Process()
    if _server:
        _server.socket.close()
        _server = None


os.register_at_fork(after_in_child=forget)
