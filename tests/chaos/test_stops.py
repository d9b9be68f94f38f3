"""SIGTERM: a worker gives waiting messages back, finishes what it fetches, and ends within ten seconds.

No beat runs in these tests: nothing may be lost that a sweep would have to send again.
"""

import signal
import time
from collections.abc import Callable

import pytest

from sandbox.processes import ChildProcess
from tests.chaos.harness import Rig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

#: What `docker stop` waits before it kills.
GRACE_S = 10.0
POOLS = {"threads": (), "prefork": ("--pool", "prefork", "-c", "4")}


def stop(run: Rig, *workers: ChildProcess) -> None:
    """Send SIGTERM to all at once; each ends within the grace with exit code 0."""
    until = time.monotonic() + GRACE_S
    for worker in workers:
        run.forget(worker)
        worker.send(signal.SIGTERM)
    for worker in workers:
        assert worker.wait(max(0.1, until - time.monotonic())) == 0


@pytest.mark.parametrize("pool", POOLS)
def test_rolling_restart(rig: Start, report: Report, pool: str) -> None:
    run = rig(rate=30, movies=20_000)
    run.start_workers(POOLS[pool], POOLS[pool])
    run.backfill()
    for share in (0.15, 0.3, 0.45, 0.6):
        run.until_stored(share)
        stop(run, run.workers[0])
        run.start_workers(POOLS[pool])
    run.fault_is_over()
    run.completes(within_s=60)
    assert run.extra == 0
    report(f"rolling restart, two rounds, {pool}", run)


@pytest.mark.parametrize("pool", POOLS)
def test_all_stop_while_the_limiter_is_closed(rig: Start, report: Report, pool: str) -> None:
    run = rig(rate=30, movies=20_000)
    run.start_workers(POOLS[pool], POOLS[pool])
    run.backfill()
    run.until_stored(0.3)
    run.emulator.configure(faults=["429=25:count=1"])
    run.until("a refusal", lambda: "429" in run.emulator.stats()["by_status"])
    # What is on its way is stored; then every task waits.
    run.until("all wait", lambda: run.emulator.stats()["open_requests"] == 0)
    stop(run, *run.workers[:])
    run.start_workers(POOLS[pool], POOLS[pool])
    run.fault_is_over()
    run.completes(within_s=90)
    assert run.extra == 0
    report(f"SIGTERM to all while the limiter is closed for 25 s, {pool}", run)
