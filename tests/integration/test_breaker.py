"""Faults that are not the pages': of our own code, and of the machine. Real workers, broken on purpose."""

from __future__ import annotations

import pytest
import redis

from tests.support.stage import PATIENCE_S, Stage, wait_for
from worker.monitoring.breaker import LIMIT

pytestmark = pytest.mark.timeout(120)

DRAMA = 18
YEARS = range(1980, 2020)
QUEUES = ("cells", "pages", "refresh")
POOLS = {
    "threads": ("--pool", "threads", "-c", "4"),
    "prefork": ("--pool", "prefork", "-c", "2"),
    "solo": ("--pool", "solo"),
}
#: A worker in which every page meets a fault.
BROKEN = """
from worker import tasks
from worker.app import app

def obtain(key, fresh_after, deadlines):
    raise TypeError("a fault of ours")

tasks.obtain = obtain
"""  #: A worker on a machine that lacks one thing after the other.
POOR = """
from worker import tasks
from worker.app import app

FAULTS = (
    OSError(28, "No space left on device"),
    PermissionError(13, "Permission denied"),
    MemoryError(),
    RuntimeError("can't start new thread"),
)

def obtain(key, fresh_after, deadlines):
    raise FAULTS[int(key.window) % len(FAULTS)]

tasks.obtain = obtain
"""
#: A worker in which the pages of even years do.
HALF_BROKEN = """
from worker import tasks
from worker.app import app

obtain = tasks.obtain

def odd_alone(key, fresh_after, deadlines):
    if int(key.window) % 2 == 0:
        raise TypeError("a fault that only this page brings out, and a-token-of-nobody")
    obtain(key, fresh_after, deadlines)

tasks.obtain = odd_alone
"""


def broken(stage: Stage, source: str) -> str:
    """A module for `celery -A`, in which something is broken."""
    (stage.folder / "broken.py").write_text(source)
    stage.environment["PYTHONPATH"] = str(stage.folder)
    return "broken"


def waiting(stage: Stage) -> int:
    """Messages in the queues, those that a worker holds included."""
    with redis.Redis.from_url(stage.redis_url) as client:
        lanes = sum(int(client.llen(f"{{reelhaul}}:{lane}")) for lane in QUEUES)
        return lanes + int(client.hlen("{reelhaul}:unacked"))


def quarantined(stage: Stage) -> int:
    return stage.database["failures"].count_documents({"class": "unexpected"})


@pytest.mark.parametrize("pool", POOLS)
def test_bug_on_every_page_stops_the_worker_and_leaves_the_queue(stage: Stage, pool: str) -> None:
    stage.emulator("--movies", "1000")
    module = broken(stage, BROKEN)
    stage.send(refresh=[(DRAMA, str(year), 1) for year in YEARS])
    worker = stage.worker(*POOLS[pool], module=module)
    assert worker.wait(PATIENCE_S) == 1, worker.log_tail()
    given_up = quarantined(stage)
    assert 0 < given_up < LIMIT
    assert waiting(stage) == len(YEARS) - given_up
    [said] = {line for line in worker.log_text().splitlines() if "failures retry --class unexpected" in line}
    assert "TypeError: a fault of ours" in said
    # The next one, mended, does what this one left.
    mended = stage.worker(*POOLS[pool])
    wait_for(lambda: not waiting(stage), watching=[mended])
    assert {f"{DRAMA}:{year}:1" for year in YEARS} == {
        document["_id"]
        for name in ("pages", "failures")
        for document in stage.database[name].find({"page": 1}, {"_id": 1})
    }


def test_bug_on_some_pages_quarantines_those_alone(stage: Stage) -> None:
    stage.emulator("--movies", "1000")
    module = broken(stage, HALF_BROKEN)
    worker = stage.worker("--pool", "solo", module=module)
    stage.send(refresh=[(DRAMA, str(year), 1) for year in YEARS])
    wait_for(lambda: quarantined(stage) == len(YEARS) // 2, watching=[worker])
    wait_for(lambda: not waiting(stage), watching=[worker])
    reasons = {failure["reason"] for failure in stage.database["failures"].find()}
    assert reasons == {"TypeError: a fault that only this page brings out, and [secret]"}
    assert stage.database["pages"].count_documents({"page": 1}) == len(YEARS) // 2


def test_host_failure_quarantines_no_page(stage: Stage) -> None:
    stage.emulator("--movies", "1000")
    module = broken(stage, POOR)
    stage.send(refresh=[(DRAMA, str(year), 1) for year in YEARS])
    worker = stage.worker("-c", "8", module=module)
    words = ("No space left", "Permission denied", "MemoryError", "can't start new thread")

    def all_went_back() -> bool:
        said = [line for line in worker.log_text().splitlines() if "back to the queue" in line]
        return len(said) > 2 * LIMIT and all(any(word in line for line in said) for word in words)

    wait_for(all_went_back, watching=[worker])
    assert quarantined(stage) == 0
    worker.stop()
    assert waiting(stage) == len(YEARS)
