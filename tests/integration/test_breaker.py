"""Faults of our own code and of the machine quarantine no page. Real workers, broken on purpose."""

import pytest
import redis

from tests.support.stage import PATIENCE_S, Stage, wait_for
from worker.monitoring.breaker import LIMIT

pytestmark = pytest.mark.timeout(120)

DRAMA = 18
YEARS = range(1980, 2020)
QUEUES = ("cells", "pages", "refresh", "refresh_cells")
POOLS = {
    "threads": ("--pool", "threads", "-c", "4"),
    "prefork": ("--pool", "prefork", "-c", "2"),
    "solo": ("--pool", "solo"),
}
#: A worker with a bug on every page.
BROKEN = """
from worker import tasks
from worker.app import app

def fetch_and_save(fetch, deadlines):
    raise TypeError("a bug of ours")

tasks.fetch_and_save = fetch_and_save
"""
#: A worker on a machine that lacks one thing after another.
POOR = """
from worker import tasks
from worker.app import app

FAULTS = (
    OSError(28, "No space left on device"),
    PermissionError(13, "Permission denied"),
    MemoryError(),
    RuntimeError("can't start new thread"),
)

def fetch_and_save(fetch, deadlines):
    raise FAULTS[int(fetch.key.window) % len(FAULTS)]

tasks.fetch_and_save = fetch_and_save
"""
#: A worker with a bug on the pages of even years.
HALF_BROKEN = """
from worker import tasks
from worker.app import app

original = tasks.fetch_and_save

def fetch_and_save(fetch, deadlines):
    if int(fetch.key.window) % 2 == 0:
        raise TypeError("a bug on this page, and a-token-of-nobody")
    original(fetch, deadlines)

tasks.fetch_and_save = fetch_and_save
"""


def broken(stage: Stage, source: str) -> str:
    """Write the source as a module for `celery -A`; return the module's name."""
    (stage.folder / "broken.py").write_text(source)
    stage.environment["PYTHONPATH"] = str(stage.folder)
    return "broken"


def waiting(stage: Stage) -> int:
    """Messages in the queues or with a worker."""
    with redis.Redis.from_url(stage.redis_url) as client:
        lengths = sum(int(client.llen(f"{{reelhaul}}:{queue}")) for queue in QUEUES)
        return lengths + int(client.hlen("{reelhaul}:unacked"))


def quarantined(stage: Stage) -> int:
    return stage.database["failures"].count_documents({"class": "unexpected"})


@pytest.mark.parametrize("pool", POOLS)
def test_bug_on_every_page_stops_the_worker_and_leaves_the_queue(stage: Stage, pool: str) -> None:
    stage.emulator("--movies", "1000")
    module = broken(stage, BROKEN)
    stage.send(refresh=[(DRAMA, str(year), 1) for year in YEARS])
    worker = stage.worker(*POOLS[pool], module=module)
    assert worker.wait(PATIENCE_S) == 1, worker.log_tail()
    failures = quarantined(stage)
    assert 0 < failures < LIMIT
    assert waiting(stage) == len(YEARS) - failures
    [line] = {line for line in worker.log_text().splitlines() if "failures retry --class unexpected" in line}
    assert "TypeError: a bug of ours" in line
    # A worker without the bug fetches the rest.
    fixed = stage.worker(*POOLS[pool])
    wait_for(lambda: not waiting(stage), watching=[fixed])
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
    assert reasons == {"TypeError: a bug on this page, and [secret]"}
    assert stage.database["pages"].count_documents({"page": 1}) == len(YEARS) // 2


def test_host_failure_quarantines_no_page(stage: Stage) -> None:
    stage.emulator("--movies", "1000")
    module = broken(stage, POOR)
    stage.send(refresh=[(DRAMA, str(year), 1) for year in YEARS])
    worker = stage.worker("-c", "8", module=module)
    reasons = ("No space left", "Permission denied", "MemoryError", "can't start new thread")

    def every_reason_is_logged() -> bool:
        lines = [line for line in worker.log_text().splitlines() if '"requeued"' in line]
        return len(lines) > 2 * LIMIT and all(any(reason in line for line in lines) for reason in reasons)

    wait_for(every_reason_is_logged, watching=[worker])
    assert quarantined(stage) == 0
    worker.stop()
    assert waiting(stage) == len(YEARS)
