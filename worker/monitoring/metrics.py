"""What this process measures of its own work, for `reelhaul status` and for Prometheus."""

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

#: Kinds of time that a task spends; `task` includes the others.
KINDS = {
    "token": "waiting for a token",
    "connection": "waiting for a connection",
    "fetch": "on requests to TMDB",
    "store": "on MongoDB",
    "task": "in all",
}
#: Bucket bounds in seconds. Usual are 150 ms for a fetch, 5 ms for a store; a task waits 30 s and takes 56 s.
BUCKETS = {
    "token": (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
    "connection": (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
    "fetch": (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 4, 8, 12),
    "store": (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 5, 20),
    "task": (0.01, 0.1, 0.2, 0.3, 0.5, 1, 3, 10, 30, 56),
}
#: Counters: help text and label; each also has the label `kind`: page, totals, popular, changes or movie.
COUNTED = {
    "requests": ("Requests to TMDB by HTTP status; error: no complete response.", "status"),
    "fetches": ("Pages and single movies by outcome: stored, fresh, gone or quarantined.", "outcome"),
    "movies": ("Movies received by change: new, changed or unchanged.", "change"),
    "quarantined": ("Quarantined pages and single movies by class of failure.", "class"),
}


class TimeAccounting:
    """Seconds spent by kind, including what is still running. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: Counter[str] = Counter()
        self._open: dict[object, tuple[str, float]] = {}
        self.saved = 0

    def begin(self, kind: str) -> object:
        """Start a span of time; `end` takes the returned token."""
        span = object()
        with self._lock:
            self._open[span] = (kind, time.monotonic())
        return span

    def end(self, span: object) -> float:
        """End the span and return its seconds."""
        with self._lock:
            kind, begun = self._open.pop(span)
            took_s = time.monotonic() - begun
            self._spent[kind] += took_s  # type: ignore[assignment] # counts seconds
        return took_s

    def read(self) -> dict[str, float]:
        """Totals so far: seconds by kind, pages and movies `saved`, `cpu` seconds, and the time as `at`."""
        with self._lock:
            now, spent = time.monotonic(), dict.fromkeys(KINDS, 0.0) | dict(self._spent)
            for kind, begun in self._open.values():
                spent[kind] += now - begun
        return {**spent, "saved": self.saved, "cpu": time.process_time(), "at": now}


class PrometheusMetrics:
    """The histograms and counters that Prometheus scrapes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = {
            kind: Histogram(
                f"reelhaul_{kind}_seconds",
                f"Seconds that a task spent {about}.",
                registry=self.registry,
                buckets=BUCKETS[kind],
            )
            for kind, about in KINDS.items()
        }
        self._counts = {
            name: PrometheusCounter(f"reelhaul_{name}", about, ["kind", label], registry=self.registry)
            for name, (about, label) in COUNTED.items()
        }

    def observe(self, kind: str, took_s: float) -> None:
        self._seconds[kind].observe(took_s)

    def count(self, name: str, kind: str, label: str, number: int) -> None:
        self._counts[name].labels(kind, label).inc(number)


class _Process:
    """This process' measurements; a forked process starts with new ones."""

    def __init__(self) -> None:
        self.accounting = TimeAccounting()
        self.prometheus: PrometheusMetrics | None = None


_process = _Process()
_server: Any = None


@contextmanager
def spent(kind: str) -> Iterator[None]:
    """Count the block's time as spent on `kind`."""
    process = _process
    span = process.accounting.begin(kind)
    try:
        yield
    finally:
        took_s = process.accounting.end(span)
        if process.prometheus:
            process.prometheus.observe(kind, took_s)


def count(name: str, kind: str, label: str, number: int = 1) -> None:
    """Add to one of COUNTED."""
    if name == "fetches" and label == "stored":
        # Two threads may lose a count here; the sum is only shown to a person.
        _process.accounting.saved += number
    if _process.prometheus and number:
        _process.prometheus.count(name, kind, label, number)


def accounting() -> TimeAccounting:
    """This process' time accounting."""
    return _process.accounting


def serve(address: str, port: int, shared: Path | None, more: Iterable[Any]) -> None:
    """Serve metrics at the address and port; UsageError when the port is taken.

    `shared`: the folder through which pool processes add up their metrics; `more`: further collectors.
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
    """The folder through which this worker's pool processes add up their metrics."""
    # Containers that share the run folder have equal pids, but different host names.
    return run_folder / f"metrics-{socket.gethostname()}-{os.getpid()}"


def share(folder: Path) -> None:
    """Keep metrics in files in `folder` from now on; UsageError when it cannot be made."""
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed worker with the same host name and pid
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise UsageError(
            f"REELHAUL_RUN_FOLDER {folder.parent}: cannot be used for metrics: {error.strerror}"
        ) from None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    # The library reads the variable when it is imported, which Flower's plugin does before the pool is known.
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def join() -> None:
    """Keep metrics in this pool process too, if its worker serves them."""
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        # A cleaner of /tmp may have removed it since the worker started.
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        _process.prometheus = PrometheusMetrics()


def forget() -> None:
    """Drop the parent's measurements and socket in a forked process."""
    global _process, _server  # noqa: PLW0603 -- one a process
    _process = _Process()
    if _server:
        _server.socket.close()
        _server = None


os.register_at_fork(after_in_child=forget)
