"""A fleet in 429s and outages, judged by the emulator's log of arrivals."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.fleet import LoadFleet
from sandbox.servers import EmbeddedRedis, EmulatorProcess

pytestmark = pytest.mark.acceptance

RATE, THREADS, LATENCY_MS = 40, 8, 50
#: From an arrival until its response has closed the limiter and the requests under way have arrived.
IN_FLIGHT_S = 0.15

Arrivals = list[list[Any]]
Load = tuple[LoadFleet, EmulatorProcess]


@pytest.fixture(scope="module")
def started(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """Two processes that load an emulator without a limit."""
    folder = tmp_path_factory.mktemp("load")
    with (
        EmulatorProcess("--movies", "1", "--latency-ms", str(LATENCY_MS)) as api,
        LoadFleet(redis_server, api, folder, f"{RATE}/s") as fleet,
    ):
        fleet.start(2, threads=THREADS, timeout_s=0.7)
        yield fleet, api


@pytest.fixture
def loaded(started: Load) -> Load:
    """The same, at the full rate, without faults."""
    fleet, api = started
    api.configure(faults=[])
    with fleet.limiter() as limiter:
        limiter.resume()
        limiter.set_rate(None)
        wait_for(lambda: not limiter.state().closed_reason)
    api.reset()
    wait_for(lambda: api.stats()["arrivals"] > RATE / 2)
    return fleet, api


def wait_for(what: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    until = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < until, "not within the time limit"
        time.sleep(0.05)
    return found


def arrivals(log: Arrivals, begin_s: float, end_s: float) -> list[float]:
    return [row[1] for row in log if begin_s < row[1] < end_s]


def refused_at(api: EmulatorProcess) -> float:
    """When the first 429 was sent."""
    return float(next(row[1] for row in api.log() if row[2] == 429))


@pytest.mark.parametrize(
    ("retry_after", "pause_s"),
    [("none", 1), ("0", 1), ("2", 2), ("date+3", 2), ("garbage", 1)],
)
def test_a_429_pauses_the_whole_fleet_for_retry_after(loaded: Load, retry_after: str, pause_s: float) -> None:
    """A date has whole seconds: three seconds ahead are at least two."""
    fleet, api = loaded
    api.configure(faults=[f"429={retry_after}:count=1"])
    wait_for(lambda: api.stats()["by_status"].get("429"))
    at = refused_at(api)
    wait_for(lambda: arrivals(api.log(), at + pause_s + 1, at + 60))
    with fleet.limiter() as limiter:
        state = limiter.state()
    log = api.log()
    assert arrivals(log, at + IN_FLIGHT_S, at + pause_s) == []
    # In the first half second after the pause the rate climbs from half to 60 %.
    back = arrivals(log, at + pause_s, at + 60)[0]
    assert len(arrivals(log, back, back + 0.5)) <= 0.75 * 0.5 * RATE
    assert 0.5 <= state.share < 1


def test_an_absurd_retry_after_is_capped(loaded: Load) -> None:
    fleet, api = loaded
    api.configure(faults=["429=absurd:count=1"])
    wait_for(lambda: api.stats()["by_status"].get("429"))
    with fleet.limiter() as limiter:
        state = wait_for(lambda: (now := limiter.state()).closed_reason and now)
        assert state.closed_reason == "throttled"
        assert 0 < state.closed_s <= 300
        limiter.resume()  # ends it sooner
    at = refused_at(api)
    wait_for(lambda: arrivals(api.log(), at + 1, at + 60))


def test_several_refusals_at_once_halve_the_rate_once(loaded: Load) -> None:
    fleet, api = loaded
    # More than five requests arrive during the half second of the first response.
    api.configure(faults=["429=3:count=5"], latency_ms=500)
    wait_for(lambda: api.stats()["by_status"].get("429", 0) == 5)
    with fleet.limiter() as limiter:
        state = limiter.state()
    api.configure(latency_ms=LATENCY_MS)
    assert (state.closed_reason, state.share) == ("throttled", 0.5)


KINDS = ["status=503/html", "html", "not-json", "reset=start", "reset=body", "close", "truncate"]
OUTAGES = {
    "all kinds in turn": [
        f"{kind}:every={left}" for left, kind in zip(range(len(KINDS), 0, -1), KINDS, strict=True)
    ],
    "no response": ["hang"],
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_is_probed_by_one_request_at_a_time_and_ends_quickly(loaded: Load, outage: str) -> None:
    fleet, api = loaded
    down = time.monotonic()
    api.configure(faults=OUTAGES[outage])
    with fleet.limiter() as limiter:
        wait_for(lambda: limiter.state().closed_reason == "outage")
        closed = time.monotonic()
        time.sleep(2.0)
        up = time.monotonic()
        api.configure(faults=[])
        wait_for(lambda: not limiter.state().closed_reason)
    time.sleep(3.0)
    log = api.log()
    # Until it was noticed: the requests of each thread under way, and three failures in a row.
    assert len(arrivals(log, down, closed)) <= RATE * (closed - down) + 2 * THREADS
    probes = arrivals(log, closed + IN_FLIGHT_S, up)
    assert 1 <= len(probes) <= 4
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    # Each pause is twice the one before, within the jitter.
    assert all(later > 1.1 * earlier for earlier, later in pairwise(gaps))
    check_recovery(log, up)


def check_recovery(log: Arrivals, up: float) -> None:
    """After the probe that succeeds, requests of less than two seconds are missing."""
    probe = next(row[1] for row in log if row[1] > up and row[2] == 200)
    assert len(arrivals(log, probe, probe + 3)) > RATE * (3 - 2)


def test_scattered_failures_do_not_close_the_limiter(loaded: Load) -> None:
    """Only three failures in a row are an outage; a success in between resets the count."""
    fleet, api = loaded
    api.configure(faults=["status=500:every=5"])
    api.reset()
    wait_for(lambda: api.stats()["by_status"].get("500", 0) > 6)
    with fleet.limiter() as limiter:
        assert limiter.state().closed_reason == ""


def test_the_fleet_recovers_from_refused_connections(loaded: Load) -> None:
    fleet, api = loaded
    api.kill()
    with fleet.limiter() as limiter:
        wait_for(lambda: limiter.state().closed_reason == "outage")
        api.start()
        up = time.monotonic()
        wait_for(lambda: not limiter.state().closed_reason, 60)
    time.sleep(3.0)
    check_recovery(api.log(), up)
