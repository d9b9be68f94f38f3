"""How a fleet meets an API that refuses, or is down: judged by what arrives meanwhile."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.fleet import LoadFleet
from sandbox.servers import EmbeddedRedis, EmulatorProcess

pytestmark = pytest.mark.acceptance

RATE, SLOTS, LATENCY_MS = 40, 8, 50
#: From an arrival until its answer has shut the gate, and what was on its way has arrived.
IN_FLIGHT_S = 0.15

Arrivals = list[list[Any]]
Busy = tuple[LoadFleet, EmulatorProcess]


@pytest.fixture(scope="module")
def standing(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    """Two processes that load an API without a limit."""
    folder = tmp_path_factory.mktemp("load")
    with (
        EmulatorProcess("--movies", "1", "--latency-ms", str(LATENCY_MS)) as api,
        LoadFleet(redis_server, api, folder, f"{RATE}/s") as fleet,
    ):
        fleet.start(2, threads=SLOTS, timeout_s=0.7)
        yield fleet, api


@pytest.fixture
def busy(standing: Busy) -> Busy:
    """They, at work at the full rate; nothing that troubled them before is left."""
    fleet, api = standing
    api.configure(faults=[])
    with fleet.limiter() as gate:
        gate.resume()
        gate.set_rate(None)
        wait_for(lambda: not gate.state().closed_reason)
    api.reset()
    wait_for(lambda: api.stats()["arrivals"] > RATE / 2)
    return fleet, api


def wait_for(what: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    until = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)
    return found


def arrivals(log: Arrivals, begin_s: float, end_s: float) -> list[float]:
    return [row[1] for row in log if begin_s < row[1] < end_s]


def refusal(api: EmulatorProcess) -> float:
    """When the first of the fault's 429 was sent."""
    return float(next(row[1] for row in api.log() if row[2] == 429))


@pytest.mark.parametrize(
    ("retry_after", "pause_s"),
    [("none", 1), ("0", 1), ("2", 2), ("date+3", 2), ("garbage", 1)],
)
def test_a_429_pauses_the_whole_fleet_for_retry_after(busy: Busy, retry_after: str, pause_s: float) -> None:
    """A date has whole seconds: three seconds ahead are at least two."""
    fleet, api = busy
    api.configure(faults=[f"429={retry_after}:count=1"])
    wait_for(lambda: api.stats()["by_status"].get("429"))
    at = refusal(api)
    wait_for(lambda: arrivals(api.log(), at + pause_s + 1, at + 60))
    with fleet.limiter() as gate:
        state = gate.state()
    log = api.log()
    assert arrivals(log, at + IN_FLIGHT_S, at + pause_s) == []
    # In the first half second after the pause the rate climbs from half to 60 %.
    back = arrivals(log, at + pause_s, at + 60)[0]
    assert len(arrivals(log, back, back + 0.5)) <= 0.75 * 0.5 * RATE
    assert 0.5 <= state.share < 1


def test_an_absurd_retry_after_is_capped(busy: Busy) -> None:
    fleet, api = busy
    api.configure(faults=["429=absurd:count=1"])
    wait_for(lambda: api.stats()["by_status"].get("429"))
    with fleet.limiter() as gate:
        state = wait_for(lambda: (now := gate.state()).closed_reason and now)
        assert state.closed_reason == "throttled"
        assert 0 < state.closed_s <= 300
        # And a person need not wait for it.
        gate.resume()
    at = refusal(api)
    wait_for(lambda: arrivals(api.log(), at + 1, at + 60))


def test_several_refusals_at_once_halve_the_rate_once(busy: Busy) -> None:
    fleet, api = busy
    # While the first answer takes half a second, more than five requests arrive.
    api.configure(faults=["429=3:count=5"], latency_ms=500)
    wait_for(lambda: api.stats()["by_status"].get("429", 0) == 5)
    with fleet.limiter() as gate:
        state = gate.state()
    api.configure(latency_ms=LATENCY_MS)
    assert (state.closed_reason, state.share) == ("throttled", 0.5)


KINDS = ["status=503/html", "html", "not-json", "reset=start", "reset=body", "close", "truncate"]
OUTAGES = {
    "every kind by turns": [
        f"{kind}:every={left}" for left, kind in zip(range(len(KINDS), 0, -1), KINDS, strict=True)
    ],
    "no answer": ["hang"],
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_is_probed_by_one_request_at_a_time_and_ends_quickly(busy: Busy, outage: str) -> None:
    fleet, api = busy
    down = time.monotonic()
    api.configure(faults=OUTAGES[outage])
    with fleet.limiter() as gate:
        wait_for(lambda: gate.state().closed_reason == "outage")
        closed = time.monotonic()
        time.sleep(2.0)
        up = time.monotonic()
        api.configure(faults=[])
        wait_for(lambda: not gate.state().closed_reason)
    time.sleep(3.0)
    log = api.log()
    # Until it was noticed: what every slot had under way, and three in a row.
    assert len(arrivals(log, down, closed)) <= RATE * (closed - down) + 2 * SLOTS
    probes = arrivals(log, closed + IN_FLIGHT_S, up)
    assert 1 <= len(probes) <= 4
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    # Each pause is twice the one before, give or take the jitter.
    assert all(later > 1.1 * earlier for earlier, later in pairwise(gaps))
    recovered(log, up)


def recovered(log: Arrivals, up: float) -> None:
    """From the probe that found the API well, less than two seconds' requests were lost."""
    probe = next(row[1] for row in log if row[1] > up and row[2] == 200)
    assert len(arrivals(log, probe, probe + 3)) > RATE * (3 - 2)


def test_scattered_failures_do_not_close_the_limiter(busy: Busy) -> None:
    """Only three in a row are an outage; what succeeds in between forgives the rest."""
    fleet, api = busy
    api.configure(faults=["status=500:every=5"])
    api.reset()
    wait_for(lambda: api.stats()["by_status"].get("500", 0) > 6)
    with fleet.limiter() as gate:
        assert gate.state().closed_reason == ""


@pytest.mark.parametrize("shut", ["paused", "outage", "throttled"])
def test_a_process_that_is_asked_to_stop_while_it_waits_stops(busy: Busy, shut: str) -> None:
    fleet, api = busy
    one = fleet.start(1, threads=SLOTS)[0]
    if shut != "paused":
        api.configure(faults=["429=300:count=1" if shut == "throttled" else "status=503"])
    with fleet.limiter() as gate:
        if shut == "paused":
            gate.pause()
        wait_for(lambda: gate.state().closed_reason == shut)
        # SIGTERM is enough, and the gate is still shut.
        assert one.stop(20) == 0
        assert gate.state().closed_reason == shut


def test_the_fleet_recovers_from_refused_connections(busy: Busy) -> None:
    """Connections are refused while it is away."""
    fleet, api = busy
    api.kill()
    with fleet.limiter() as gate:
        wait_for(lambda: gate.state().closed_reason == "outage")
        api.start()
        up = time.monotonic()
        wait_for(lambda: not gate.state().closed_reason, 60)
    time.sleep(3.0)
    recovered(api.log(), up)
