"""One limiter for several processes, judged by the log of an emulator that enforces the limit."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.arrivals import least_share, longest_gap, utilisation, worst_excess
from benchmarks.fleet import LoadFleet
from sandbox.servers import EmbeddedRedis, EmulatorProcess

pytestmark = pytest.mark.acceptance

RATE, CAPACITY = 40, 5
#: Requests that scheduling may add between grant and arrival: 100 ms worth.
TOLERANCE = 0.1 * RATE
LATENCY_MS = 100

Arrivals = list[list[Any]]
StartFleet = Callable[..., tuple[LoadFleet, EmulatorProcess]]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that keeps its data and may be killed."""
    with EmbeddedRedis(folder=tmp_path / "redis") as server:
        yield server


@pytest.fixture
def fleet_on(tmp_path: Path) -> Iterator[StartFleet]:
    """Starts a fleet on a Redis, and the emulator that it loads."""
    with ExitStack() as started:

        def start(redis: EmbeddedRedis) -> tuple[LoadFleet, EmulatorProcess]:
            limit = ("--rate", str(RATE), "--capacity", str(CAPACITY + TOLERANCE))
            api = EmulatorProcess("--movies", "1", "--latency-ms", str(LATENCY_MS), *limit)
            started.enter_context(api)
            fleet = LoadFleet(redis, api, tmp_path, f"{RATE}/s", CAPACITY)
            return started.enter_context(fleet), api

        yield start


def times_of(log: Arrivals) -> list[float]:
    return [row[1] for row in log]


def check_promise(log: Arrivals) -> None:
    """At most capacity + rate x T in any window, and nothing refused."""
    assert worst_excess(times_of(log), RATE, CAPACITY) <= TOLERANCE
    assert [row for row in log if row[2] == 429] == []


def sources(log: Arrivals) -> list[tuple[float, str]]:
    return [(row[1], row[4].split(":")[0]) for row in log]


def test_the_limit_is_kept_and_used(redis_server: EmbeddedRedis, fleet_on: StartFleet) -> None:
    """By eight processes; `make bench-limit` covers other numbers and long runs."""
    fleet, api = fleet_on(redis_server)
    with fleet.limiter() as limiter:
        limiter.pause()
        fleet.start(8, threads=4)
        limiter.resume()
        time.sleep(3)
    fleet.stop()
    log = api.log()
    check_promise(log)
    assert len({source for _, source in sources(log)}) == 8
    # The first second of each process weighs more here than in the benchmark's minute.
    assert utilisation(times_of(log), RATE, CAPACITY) > 0.85


def test_every_process_gets_its_share_whatever_its_clock_says(
    redis_server: EmbeddedRedis, fleet_on: StartFleet
) -> None:
    """One clock is a day behind, one an hour ahead; the script uses only Redis' clock."""
    fleet, api = fleet_on(redis_server)
    with fleet.limiter() as limiter:
        limiter.pause()
        for offset_s in (0, 0, 3_600, -86_400):
            fleet.start(threads=6, clock_offset_s=offset_s)
        limiter.resume()
        time.sleep(6)
    fleet.stop()
    log = api.log()
    check_promise(log)
    assert len({source for _, source in sources(log)}) == 4
    # Stricter than the 10 s of docs/limiter.md.
    assert least_share(sources(log), window_s=5) >= 0.5


def test_starting_and_killing_processes_keeps_the_limit(
    redis_server: EmbeddedRedis, fleet_on: StartFleet
) -> None:
    fleet, api = fleet_on(redis_server)
    fleet.start(2, threads=8)
    for _ in range(2):
        time.sleep(1.0)
        fleet.start(1, wait=False, threads=8)
        time.sleep(1.0)
        next(process for process in fleet.processes if process.running).kill()
    time.sleep(2.0)
    fleet.stop()
    log = api.log()
    check_promise(log)
    # A killed process loses at most one token for each of its eight threads.
    assert longest_gap(times_of(log)) <= 8 / RATE + TOLERANCE / RATE


@pytest.mark.parametrize("keeps_its_data", [True, False])
def test_a_redis_that_is_killed_and_restarted_lets_no_burst_through(
    own_redis: EmbeddedRedis, fleet_on: StartFleet, keeps_its_data: bool
) -> None:
    fleet, api = fleet_on(own_redis)
    fleet.start(3, threads=10)
    time.sleep(1.5)
    own_redis.kill()
    if not keeps_its_data:
        shutil.rmtree(own_redis.folder / "appendonlydir")
    own_redis.start()
    restarted_s = time.monotonic()
    time.sleep(2.5)
    fleet.stop()
    log = api.log()
    check_promise(log)
    # All processes continue.
    late = [source for at, source in sources(log) if at > restarted_s]
    assert len(set(late)) == 3
    assert len(late) > RATE


def test_a_suspended_process_sends_no_burst_when_it_continues(
    redis_server: EmbeddedRedis, fleet_on: StartFleet
) -> None:
    """As on a suspended machine or in a starved container: its tokens are late and dropped."""
    fleet, api = fleet_on(redis_server)
    suspended, *_ = fleet.start(2, threads=20)
    time.sleep(1.0)
    suspended.send(signal.SIGSTOP)
    time.sleep(1.0)
    suspended.send(signal.SIGCONT)
    time.sleep(1.0)
    fleet.stop()
    log = api.log()
    check_promise(log)
    assert len({source for _, source in sources(log)}) == 2
