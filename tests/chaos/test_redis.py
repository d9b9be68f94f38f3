"""Redis fails under every pool: restarted with and without its data, down, out of memory, connections cut."""

import shutil
import time
from collections.abc import Callable

import pytest

from tests.chaos.harness import Rig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

#: One worker of each pool. With a concurrency of eight and a plan that ends they are partly idle, too.
POOLS = ((), ("--pool", "prefork", "-c", "3"), ("--pool", "solo"))


def started(run: Rig, share: float = 0.3) -> Rig:
    """A run with a worker of each pool and a share of its plan stored."""
    run.beat()
    run.start_workers(*POOLS)
    run.backfill()
    run.until_stored(share)
    return run


def all_consume(run: Rig) -> None:
    """Assert that every worker stores pages again when there are some to fetch."""
    seen = {worker.pid: worker.log_text().count('"event": "saved"') for worker in run.workers}

    def each_has_stored() -> bool:
        return all(worker.log_text().count('"event": "saved"') > seen[worker.pid] for worker in run.workers)

    run.until("all connected", lambda: run.celery_pongs() == len(run.workers))
    run.reelhaul("refresh", "--max-age", "0s", *run.request(), "--detach")
    run.until("every worker stores again", each_has_stored)


@pytest.mark.quick
def test_redis_comes_back_empty(rig: Start, report: Report) -> None:
    run = started(rig())
    run.redis.kill()
    shutil.rmtree(run.redis.folder / "appendonlydir")
    run.redis.start()
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("Redis restarted empty", run)


def test_redis_comes_back_with_its_data(rig: Start, report: Report) -> None:
    run = started(rig())
    run.redis.kill()
    run.redis.start()
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("Redis restarted with its data", run)


def test_redis_is_unavailable(rig: Start, report: Report) -> None:
    down_s = 30
    run = started(rig())
    run.redis.kill()
    time.sleep(down_s)
    run.redis.start()
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report(f"Redis down for {down_s} s", run)


def test_redis_is_flushed(rig: Start, report: Report) -> None:
    run = started(rig())
    with run.redis_client() as client:
        client.flushall()
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("FLUSHALL", run)


def test_redis_is_out_of_memory(rig: Start, report: Report) -> None:
    run = started(rig())
    with run.redis_client() as client:
        client.config_set("maxmemory", "1")
        time.sleep(8)
        client.config_set("maxmemory", "0")
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("Redis out of memory for 8 s", run)


def test_redis_replies_late(rig: Start, report: Report) -> None:
    run = started(rig(proxied=True))
    run.proxy.delay_s = 0.8
    run.until("many replies were late", lambda: run.proxy.held >= 50)
    run.proxy.delay_s = 0
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("Redis' replies 0.8 s late", run)


def test_connections_are_killed(rig: Start, report: Report) -> None:
    run = started(rig(), share=0.1)
    with run.redis_client() as client:
        for share in (0.2, 0.4, 0.6, 0.8):
            run.until_stored(share)
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
    run.fault_is_over()
    run.completes()
    all_consume(run)
    report("CLIENT KILL of all connections, four times", run)
