"""`reelhaul limit` shows, changes, pauses and resumes a working fleet; waiting workers stop at once."""

import itertools
import json
import signal
from typing import Any

import pytest
import redis

from sandbox.servers import EmulatorProcess
from tests.support.stage import Stage, wait_for

pytestmark = pytest.mark.acceptance

RATE = 20
#: At RATE more than a minute's work: more than any of these tests lasts.
PAGES = [
    (genre_id, str(year), 1) for genre_id in (18, 35, 53, 27, 28, 12, 80, 99) for year in range(1900, 2090)
]


def arrivals(server: EmulatorProcess) -> list[float]:
    return [row[1] for row in server.log() if row[3] == "discover"]


def limit(stage: Stage) -> dict[str, Any]:
    ended = stage.reelhaul("limit", "--json")
    assert ended.returncode == 0, ended.stderr
    figures: dict[str, Any] = json.loads(ended.stdout)
    return figures


@pytest.fixture
def working(stage: Stage) -> EmulatorProcess:
    """Two workers at RATE, with more to do than a test lasts."""
    stage.environment |= {"REELHAUL_RATE": str(RATE), "REELHAUL_CAPACITY": "1"}
    server = stage.emulator("--movies", "500", "--latency-ms", "50")
    stage.send(cells=PAGES)
    workers = [stage.worker(), stage.worker()]
    wait_for(lambda: len(arrivals(server)) >= RATE, watching=workers)
    return server


def test_shows_the_limiter(stage: Stage, working: EmulatorProcess) -> None:
    figures = limit(stage)
    assert figures["configured"] == "20/s"
    assert figures["current_per_s"] == RATE
    assert (figures["closed_reason"], figures["closed_s"], figures["stopped"]) == ("", None, False)
    assert 0 < figures["granted"] < len(PAGES) + RATE
    assert figures["refused"] == 0
    assert 0 < figures["utilisation_60s"] <= figures["utilisation_10s"] <= 1.1
    shown = stage.reelhaul("limit").stdout
    assert "configured  20/s" in shown
    assert "limiter     open" in shown
    assert arrivals(working)


def test_pause_and_resume_reach_every_worker(stage: Stage, working: EmulatorProcess) -> None:
    assert stage.reelhaul("limit", "pause").stdout == "limiter closed: paused\n"
    # The command has returned, so the limiter is closed, and what was under way has arrived by now.
    assert limit(stage)["closed_reason"] == "paused"
    before = len(arrivals(working))
    assert "closed: paused" in stage.reelhaul("limit").stdout
    assert len(arrivals(working)) == before
    assert stage.reelhaul("limit", "resume").stdout == "limiter open\n"
    wait_for(lambda: len(arrivals(working)) > before + 5)


def test_pause_ends_by_itself(stage: Stage, working: EmulatorProcess) -> None:
    assert stage.reelhaul("limit", "pause", "--for", "3s").stdout == "limiter closed: paused for 3s\n"
    before = len(arrivals(working))
    wait_for(lambda: len(arrivals(working)) > before + 5)
    times = arrivals(working)
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) >= 1.5


def test_new_rate_reaches_every_worker(stage: Stage, working: EmulatorProcess) -> None:
    assert stage.reelhaul("limit", "set", "5/s").returncode == 0
    assert limit(stage)["configured"] == "5/s"
    before = len(arrivals(working))
    wait_for(lambda: len(arrivals(working)) >= before + 12)
    times = arrivals(working)[before + 1 :]
    # With a capacity of 1, requests are as far apart as the rate says, give or take their travel time.
    assert (len(times) - 1) / (times[-1] - times[0]) <= 5 * 1.1
    assert stage.reelhaul("limit", "set", "default").returncode == 0
    assert limit(stage)["configured"] == "20/s"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["set", "fast"], "rate 'fast'"),
        (["set", "0/s"], "rate '0/s'"),
        (["pause", "--for", "soon"], "--for 'soon'"),
    ],
)
def test_bad_arguments_are_one_line(stage: Stage, arguments: list[str], named: str) -> None:
    ended = stage.reelhaul("limit", *arguments)
    assert ended.returncode == 2
    assert named in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_worker_that_waits_for_a_token_stops_at_once(stage: Stage, pool: str) -> None:
    stage.environment |= {"REELHAUL_RATE": str(RATE), "REELHAUL_CONCURRENCY": "4"}
    server = stage.emulator("--movies", "500")
    assert stage.reelhaul("limit", "pause").returncode == 0
    stage.send(cells=PAGES)
    worker = stage.worker("--pool", pool)
    concurrency = 1 if pool == "solo" else 4
    with redis.Redis.from_url(stage.redis_url) as client:
        wait_for(lambda: client.hlen("{reelhaul}:unacked") == concurrency, watching=[worker])
        worker.send(signal.SIGTERM)
        assert worker.wait(20.0) == 0  # a task that is not woken waits for 30 s
        assert client.hlen("{reelhaul}:unacked") == 0
        assert client.llen("{reelhaul}:cells") == len(PAGES)
    assert not arrivals(server)
