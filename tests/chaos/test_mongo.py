"""MongoDB fails: killed, stopped, slow, full. Pages wait; none goes into quarantine."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.harness import Rig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

#: MongoDB's OutOfDiskSpace.
FULL = 14031
#: Pages that two workers fetch at a time. Their claims expire while they cannot be stored, and the sweep
#: sends them again.
IN_PROGRESS = 16


def started(run: Rig, share: float = 0.3) -> Rig:
    """A run with a share of its plan stored."""
    run.beat()
    run.start_workers()
    run.backfill()
    run.until_stored(share)
    return run


@pytest.mark.quick
def test_mongo_is_killed_and_comes_back(rig: Start, report: Report, full: bool) -> None:
    down_s = 30 if full else 1
    run = started(rig())
    run.mongo.kill()
    time.sleep(down_s)
    run.mongo.start()
    run.fault_is_over()
    run.completes(again=IN_PROGRESS)
    report(f"MongoDB killed, back after {down_s} s", run)


def test_mongo_is_suspended(rig: Start, report: Report) -> None:
    run = started(rig())
    os.kill(run.mongo.pid, signal.SIGSTOP)
    time.sleep(30)
    os.kill(run.mongo.pid, signal.SIGCONT)
    run.fault_is_over()
    run.completes(again=IN_PROGRESS)
    report("MongoDB stopped for 30 s (SIGSTOP)", run)


def test_every_write_takes_a_second(rig: Start, report: Report) -> None:
    # A sweep every few seconds would send again what is being written.
    run = rig(movies=8_000, REELHAUL_TICK_S="60")
    run.mongo.fail("insert", "update", blockConnection=True, blockTimeMS=1_000)
    run.beat()
    run.start_workers()
    run.backfill()
    run.completes()
    report("MongoDB slow: 1 s a write", run)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param({"errorCode": FULL}, id="command fails"),
        pytest.param({"writeConcernError": {"code": 64, "errmsg": "journal"}}, id="not journalled"),
    ],
)
def test_writes_fail(
    rig: Start, report: Report, error: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    run = started(rig())
    run.mongo.fail("insert", "update", **error)
    time.sleep(2)
    stored = run.stored()
    time.sleep(8)
    if "errorCode" in error:
        assert run.stored() == stored
    assert run.database.failures.count_documents({}) == 0
    run.mongo.heal()
    run.fault_is_over()
    run.completes()
    report(f"MongoDB writes fail for 10 s: {request.node.callspec.id}", run)
