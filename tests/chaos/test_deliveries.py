"""Messages are delivered more than once: three times each, by two backfills, by two beats."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.harness import Rig
from tests.support.comparison import page_key

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]


def test_every_message_comes_three_times_in_random_order(rig: Start, report: Report) -> None:
    run = rig()
    thrice = sorted(run.pages) * 3
    random.Random(7).shuffle(thrice)  # noqa: S311 -- an order, no secret
    run.send(refresh=map(page_key, thrice))
    run.start_workers()
    run.completes()
    run.until("all messages done", run.is_idle)
    run.completes()
    report("every message three times, in random order", run)


def test_two_identical_backfills_at_once(rig: Start, report: Report) -> None:
    # With slow responses both messages of a page are worked on at once: only a claim prevents two requests.
    run = rig(latency_ms=400)
    run.beat()
    run.start_workers()
    with ThreadPoolExecutor() as two:
        for started in [two.submit(run.backfill) for _ in range(2)]:
            started.result()
    run.until_stored(0.5)
    run.backfill()
    run.completes()
    assert run.database.requests.count_documents({}) == 1
    report("the same backfill twice at once, and again", run)


def test_two_beats_refresh_once(rig: Start, report: Report) -> None:
    run = rig(REELHAUL_TICK_S="2", REELHAUL_SCHEDULE="")
    run.start_workers()
    run.backfill()
    run.completes()
    beats = [run.beat(), run.beat()]

    def ticks() -> int:
        return min(beat.log_text().count("Sending due task") for beat in beats)

    def done(entry: str) -> int:
        return sum(worker.log_text().count(f'"schedule_entry": "{entry}"') for worker in run.workers)

    run.until("a refresh", lambda: done("recent") > 0)
    run.until("five ticks of each", lambda: ticks() >= 5)
    run.until("all messages done", run.is_idle)
    assert [done(entry) for entry in ("recent", "changes", "oldest")] == [1, 1, 1]
    requested = Counter(row[4] for row in run.emulator.log() if row[3] == "discover")
    assert {key: times for key, times in requested.items() if times > 1} == {}
    report("two beats: one refresh", run)
