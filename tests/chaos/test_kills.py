"""kill -9 of one worker, of pool processes and of all workers, while they work."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.chaos.harness import Rig, children, is_running

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

PREFORK = ("--pool", "prefork", "-c", "4")


@pytest.mark.quick
def test_all_workers_killed_again_and_again(rig: Start, report: Report) -> None:
    run = rig(rate=30, movies=20_000)
    run.beat()
    run.start_workers()
    run.backfill()
    for share in (0.2, 0.6):
        run.until_stored(share)
        run.kill_workers(*run.workers[:])
        run.start_workers()
    run.fault_is_over()
    run.completes()
    report("kill -9 of all workers, twice", run)


def test_one_worker_killed_again_and_again(rig: Start, report: Report) -> None:
    run = rig(rate=30, movies=20_000)
    run.beat()
    run.start_workers()
    run.backfill()
    for share in (0.1, 0.25, 0.4, 0.55):
        run.until_stored(share)
        run.kill_workers(run.workers[0])
        run.start_workers(())
    run.fault_is_over()
    run.completes()
    report("kill -9 of one of two workers, four times", run)


def test_pool_processes_killed_again_and_again(rig: Start, report: Report) -> None:
    run = rig(rate=30, movies=20_000)
    run.beat()
    run.start_workers(PREFORK, PREFORK)
    run.backfill()
    for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        run.until_stored(share)
        for worker in run.workers:
            os.kill(children(worker.pid)[0], signal.SIGKILL)
    run.fault_is_over()
    run.completes()
    run.until("pools are full", lambda: all(len(children(worker.pid)) == 4 for worker in run.workers), 30)
    report("kill -9 of a pool process of each worker, six times", run)


def test_main_process_of_a_pool_killed(rig: Start, report: Report) -> None:
    """Its pool processes end by themselves; otherwise they would keep their connections to the API."""
    run = rig(rate=30, movies=20_000)
    run.beat()
    first, _ = run.start_workers(PREFORK, PREFORK)
    run.backfill()
    run.until_stored(0.3)
    orphans = children(first.pid)
    assert len(orphans) == 4
    run.kill_workers(first)
    run.fault_is_over()
    run.completes()
    run.until("orphans have ended", lambda: not any(map(is_running, orphans)), 30)
    report("kill -9 of the main process of a prefork pool", run)


def test_killed_pages_come_back_without_a_sweep(rig: Start, report: Report) -> None:
    """Without beat, Redis' visibility timeout brings them back within two minutes.

    One page may need a sweep: the message that the worker had taken from the queue and not recorded yet.
    """
    run = rig(rate=30, movies=20_000)
    run.start_workers()
    run.backfill()
    run.until_stored(0.3)
    run.kill_workers(run.workers[0])
    run.fault_is_over()
    run.until("all messages done", run.is_idle)
    assert len(run.compare().missing) <= 1
    run.beat()
    run.completes()
    report("kill -9 of one of two workers, no beat", run)
