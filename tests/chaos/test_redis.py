"""Redis fails: restarted with and without its data, away, out of memory, connections cut; for every pool."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest

from tests.chaos.harness import Rig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

#: One worker of each pool. Eight slots and a plan that runs dry make them partly busy, too.
POOLS = ((), ("--pool", "prefork", "-c", "3"), ("--pool", "solo"))


def begun(run: Rig, share: float = 0.3) -> Rig:
    """A run of all pools with a share of its plan stored."""
    run.start_beat()
    run.start_workers(*POOLS)
    run.backfill()
    run.until_stored(share)
    return run


def all_consume(run: Rig) -> None:
    """Every worker of every pool stores pages again, once there are some to fetch."""
    seen = {worker.pid: worker.log_text().count('"event": "stored"') for worker in run.workers}

    def each_has_stored() -> bool:
        return all(worker.log_text().count('"event": "stored"') > seen[worker.pid] for worker in run.workers)

    run.until("all connected", lambda: run.celery_pongs() == len(run.workers))
    run.reelhaul("refresh", "--max-age", "0s", *run.request(), "--detach")
    run.until("every worker stores again", each_has_stored)


@pytest.mark.quick
def test_redis_comes_back_empty(rig: Start, report: Report) -> None:
    run = begun(rig())
    run.redis.kill()
    shutil.rmtree(run.redis.folder / "appendonlydir")
    run.redis.start()
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("Redis restarted empty", run)


def test_redis_comes_back_with_its_data(rig: Start, report: Report) -> None:
    run = begun(rig())
    run.redis.kill()
    run.redis.start()
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("Redis restarted with its data", run)


def test_redis_is_away(rig: Start, report: Report) -> None:
    away_s = 30
    run = begun(rig())
    run.redis.kill()
    time.sleep(away_s)
    run.redis.start()
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report(f"Redis away for {away_s} s", run)


def test_redis_is_flushed(rig: Start, report: Report) -> None:
    run = begun(rig())
    with run.redis_client() as client:
        client.flushall()
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("FLUSHALL", run)


def test_redis_is_out_of_memory(rig: Start, report: Report) -> None:
    run = begun(rig())
    with run.redis_client() as client:
        client.config_set("maxmemory", "1")
        time.sleep(8)
        client.config_set("maxmemory", "0")
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("Redis out of memory for 8 s", run)


def test_redis_answers_late(rig: Start, report: Report) -> None:
    run = begun(rig(proxied=True))
    run.proxy.delay_s = 0.8
    run.until("many answers were late", lambda: run.proxy.held >= 50)
    run.proxy.delay_s = 0
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("Redis' answers 0.8 s late", run)


def test_connections_are_killed(rig: Start, report: Report) -> None:
    run = begun(rig(), share=0.1)
    with run.redis_client() as client:
        for share in (0.2, 0.4, 0.6, 0.8):
            run.until_stored(share)
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("CLIENT KILL of all connections, four times", run)
