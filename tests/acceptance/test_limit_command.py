"""`reelhaul limit`: shown, changed, paused and resumed while a fleet works; stopping while it waits."""

import itertools
import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from sandbox.servers import EmulatorProcess
from tests.support.stage import Stage, wait_for

RATE = 20
#: At RATE more than a minute's work: more than any of these tests lasts.
PAGES = [
    (genre_id, str(year), 1) for genre_id in (18, 35, 53, 27, 28, 12, 80, 99) for year in range(1900, 2090)
]


def discovered(server: EmulatorProcess) -> list[float]:
    return [row[1] for row in server.log() if row[3] == "discover"]


def limit(stage: Stage) -> dict[str, Any]:
    told = stage.reelhaul("limit", "--json")
    assert told.returncode == 0, told.stderr
    figures: dict[str, Any] = json.loads(told.stdout)
    return figures


@pytest.fixture
def redis_client(stage: Stage) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(stage.redis_url) as client:
        yield client


@pytest.fixture
def working(stage: Stage) -> EmulatorProcess:
    """A fleet of two workers at RATE, with more to do than a test lasts."""
    stage.environment |= {"REELHAUL_RATE": str(RATE), "REELHAUL_CAPACITY": "1"}
    server = stage.emulator("--movies", "500", "--latency-ms", "50")
    stage.send(cells=PAGES)
    workers = [stage.worker(), stage.worker()]
    wait_for(lambda: len(discovered(server)) >= RATE, watching=workers)
    return server


def test_it_shows_the_gate(stage: Stage, working: EmulatorProcess) -> None:
    figures = limit(stage)
    assert figures["configured"] == "20/s"
    assert figures["current_per_s"] == RATE
    assert figures["closed_reason"] == ""
    assert 0 < figures["granted"] < len(PAGES) + RATE
    assert figures["refused"] == 0
    assert 0 < figures["utilisation_60s"] <= figures["utilisation_10s"] <= 1.1
    shown = stage.reelhaul("limit").stdout
    assert "configured  20/s" in shown
    assert "open" in shown
    assert discovered(working)


def test_pause_and_resume_reach_every_worker(stage: Stage, working: EmulatorProcess) -> None:
    assert "shut: paused" in stage.reelhaul("limit", "pause").stdout
    # The command has returned, so the gate is shut: what was on its way then has arrived by now.
    assert limit(stage)["closed_reason"] == "paused"
    before = len(discovered(working))
    shown = stage.reelhaul("limit")
    assert "paused" in shown.stdout
    assert len(discovered(working)) == before
    assert stage.reelhaul("limit", "resume").returncode == 0
    wait_for(lambda: len(discovered(working)) > before + 5)


def test_a_pause_with_an_end_ends(stage: Stage, working: EmulatorProcess) -> None:
    assert stage.reelhaul("limit", "pause", "--for", "3s").returncode == 0
    before = len(discovered(working))
    wait_for(lambda: len(discovered(working)) > before + 5)
    times = discovered(working)
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) >= 1.5


def test_a_new_rate_holds_for_every_worker(stage: Stage, working: EmulatorProcess) -> None:
    assert stage.reelhaul("limit", "set", "5/s").returncode == 0
    assert limit(stage)["configured"] == "5/s"
    before = len(discovered(working))
    wait_for(lambda: len(discovered(working)) >= before + 12)
    times = discovered(working)[before + 1 :]
    # Capacity 1: never sooner after each other than the rate says, but for how long a request travels.
    assert (len(times) - 1) / (times[-1] - times[0]) <= 5 * 1.1
    assert stage.reelhaul("limit", "set", "default").returncode == 0
    assert limit(stage)["configured"] == "20/s"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["set", "fast"], "rate 'fast'"),
        (["set", "0/s"], "rate '0/s'"),
        (["pause", "--for", "soon"], "--for 'soon'"),
    ],
)
def test_bad_words_are_one_line(stage: Stage, words: list[str], named: str) -> None:
    told = stage.reelhaul("limit", *words)
    assert told.returncode == 2
    assert named in told.stderr
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_a_worker_that_waits_at_the_gate_stops_at_once(
    stage: Stage, redis_client: "redis.Redis", pool: str
) -> None:
    stage.environment |= {"REELHAUL_RATE": str(RATE), "REELHAUL_CONCURRENCY": "4"}
    server = stage.emulator("--movies", "500")
    assert stage.reelhaul("limit", "pause").returncode == 0
    stage.send(cells=PAGES)
    worker = stage.worker("--pool", pool)
    # Every slot holds a message, and waits.
    slots = 1 if pool == "solo" else 4
    wait_for(lambda: redis_client.hlen("{reelhaul}:unacked") == slots, watching=[worker])
    worker.send(signal.SIGTERM)
    assert worker.wait(20.0) == 0  # a slot that did not wake would wait for 30 s
    assert redis_client.hlen("{reelhaul}:unacked") == 0
    assert redis_client.llen("{reelhaul}:cells") == len(PAGES)
    assert not discovered(server)
