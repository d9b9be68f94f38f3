"""Clocks that are an hour off: nothing is decided by a worker's own clock."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.chaos.harness import Rig
from tests.support.redis_faults import FAKETIME, LeapingRedis, needs_faketime

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240), needs_faketime]


def off_by(hours: int) -> dict[str, str]:
    """The environment of a process whose wall clock is off; its monotonic clock is right."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": f"{hours:+d}h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def test_workers_an_hour_apart(rig: Start, report: Report) -> None:
    run = rig(rate=30, movies=20_000)
    begun = datetime.now(UTC)
    run.beat()
    ahead, behind = run.start_workers((), **off_by(1)) + run.start_workers((), **off_by(-1))
    run.backfill()
    for share, victim, hours in ((0.2, ahead, 1), (0.5, behind, -1)):
        run.until_stored(share)
        run.kill_workers(victim)
        run.start_workers((), **off_by(hours))
    run.fault_is_over()
    run.completes()
    fetched = [page["fetched_at"] for page in run.database.pages.find({}, {"fetched_at": 1})]
    assert begun <= min(fetched) <= max(fetched) <= datetime.now(UTC)
    report("clocks an hour ahead and an hour behind, kill -9 of each", run)


def test_redis_clock_leaps(rig: Start, report: Report) -> None:
    """An hour ahead, back, an hour behind, and back: a clock is set, and a failover undoes it."""
    run = rig(redis=LeapingRedis)
    assert isinstance(run.redis, LeapingRedis)
    run.beat()
    run.start_workers()
    run.backfill()
    for share, offset_s in ((0.2, 3600), (0.4, 0), (0.6, -3600), (0.8, 0)):
        run.until_stored(share)
        run.redis.leap_to(offset_s)
    run.fault_is_over()
    # Pages dated by a clock that was ahead are fetched again.
    run.completes(again=len(run.pages))
    report("Redis' clock leaps by an hour, four times", run)


def test_all_workers_an_hour_ahead_of_beat(rig: Start, report: Report) -> None:
    """Workers must not take beat's messages for expired: only they bring back what is lost."""
    run = rig()
    run.beat()
    run.start_workers((), (), **off_by(1))
    run.backfill()
    run.until_stored(0.3)
    with run.redis_client() as client:
        client.flushall()
    run.fault_is_over()
    run.completes(within_s=60)
    report("all workers an hour ahead of beat, FLUSHALL", run)
