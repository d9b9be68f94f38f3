"""Clients are built once per process, however many threads ask for them at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from worker import clients

THREADS = 16


def test_threads_that_start_together_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker's first tasks do. A second share of the host's connections would wait for the first."""
    built: list[object] = []

    class SlowToBuild:
        def __init__(self, *_: Any) -> None:
            time.sleep(0.05)
            built.append(self)

    monkeypatch.setattr(clients, "HostShare", SlowToBuild)
    clients.clear_cached_clients()
    start = threading.Barrier(THREADS)

    def use(_: int) -> object:
        start.wait()
        return clients.host_share()

    try:
        with ThreadPoolExecutor(THREADS) as threads:
            used = set(threads.map(use, range(THREADS)))
    finally:
        clients.clear_cached_clients()
    assert used == set(built)
    assert len(built) == 1
