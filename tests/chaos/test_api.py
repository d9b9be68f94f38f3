"""TMDB fails in every way that the emulator can, one fault alone and all at once."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.chaos.harness import LOOK_S, Rig
from tests.support.comparison import Comparison

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

#: Short faults: a response that is missing, late, or not what was requested.
PASSING = [
    "429=1", "status=500", "status=502/html", "status=503/empty", "error=24", "error=46", "error-200",
    "html", "empty", "gzip", "not-json", "reset=start", "reset=head", "reset=body", "close", "truncate",
    "drip=1", "drip-head=1", "early-hints", "latency=1", "redirect", "status=204", "status=400/html",
    "status=401/empty", "status=407/html", "status=451/html",
    "results=null", "results=object", "results=text", "results=missing", "wrong-page",
]  # fmt: skip


#: Faults that slow the whole fleet down; left out where a test would take too long.
SLOW = ["429", "429=0", "429=date+1", "429=garbage", "hang", "drip=5", "drip-head=20", "latency=3"]


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A fleet for one fault after the other."""
    with Rig(
        tmp_path_factory.mktemp("faults"), movies=6_000, years=(2023, 2025), REELHAUL_TIMEOUT_S="2"
    ) as run:
        run.beat()
        run.start_workers()
        yield run


@pytest.mark.parametrize("fault", [*PASSING, *SLOW])
def test_one_fault_alone(one_by_one: Rig, report: Report, fault: str) -> None:
    run = one_by_one
    run.begin_anew()
    run.emulator.configure(faults=[f"{fault}:every=7:count=3"])
    run.backfill()
    run.completes(probing=True)
    # A response that still drips has neither status nor fault in the log.
    assert any(row[6] is not None or row[2] is None for row in run.emulator.log())
    report(f"one response in seven: {fault}", run)


@pytest.mark.quick
def test_a_tenth_of_all_responses_is_spoiled(rig: Start, report: Report) -> None:
    run = rig()
    run.emulator.configure(faults=[f"{fault}:p={0.1 / len(PASSING):.6f}" for fault in PASSING])
    run.beat()
    run.start_workers()
    run.backfill()
    run.completes()
    spoiled = sum(row[-1] is not None for row in run.emulator.log())
    assert spoiled > 0.03 * len(run.pages)
    report("every fault of the API at random, 10 % of responses", run)


@pytest.mark.parametrize("fault", ["redirect", "status=400/html", "error-200=11"])
def test_an_outage_of_twenty_seconds(in_part: Rig, report: Report, fault: str) -> None:
    """A portal, a proxy or the API itself responds, but neither with 5xx nor with silence."""
    run = in_part
    run.begin_anew()
    run.backfill()
    run.until_stored(0.1)
    run.emulator.configure(faults=[fault])
    assert_no_failures(run)
    with run.redis_client() as client:
        assert int(client.hget("{reelhaul}:limiter", "closed") or 0) > 0
    run.emulator.configure(faults=[])
    run.fault_is_over()
    run.completes(probing=True)
    report(f"nothing but {fault} for 20 s", run)


def test_an_outage_of_two_minutes(rig: Start, report: Report) -> None:
    """First silence, then HTML with 503, then cut connections."""
    run = rig()
    run.beat()
    run.start_workers()
    run.backfill()
    run.until_stored(0.3)
    run.emulator.configure(faults=["hang:for=10", "status=503/html:for=60", "reset=start:for=120"])
    time.sleep(120)
    run.fault_is_over()
    run.completes()
    report("TMDB silent, down, then cutting connections: two minutes", run)


@pytest.mark.parametrize("fault", ["status=500", "not-json"])
def test_a_page_that_is_always_broken(rig: Start, report: Report, fault: str) -> None:
    # A sweep every few seconds would send again what is being fetched.
    run = rig(REELHAUL_TICK_S="60")
    broken = "18:2020:2"
    run.emulator.configure(faults=[f"{fault}:match=with_genres=18&.*gte=2020-.*page=2(&|$)"])
    run.beat()
    run.start_workers()
    run.backfill()
    run.completes(quarantined=1, probing=True)
    failure = run.database.failures.find_one({"_id": broken})
    assert failure is not None
    assert failure["class"] == "poison"
    assert failure["status"] == (500 if fault == "status=500" else 200)
    assert failure["body"]
    assert failure["attempts"] == 1
    assert sum(row[6] is not None for row in run.emulator.log()) == 5
    report(f"one page always broken: {fault}", run)


def test_pages_shift_during_the_run(rig: Start, report: Report) -> None:
    """New movies come first in their cells; a refresh finds the movies that they displaced."""
    run = rig()
    run.beat()
    run.start_workers()
    run.backfill()
    some = [movie for movie in run.catalogue.values() if "2015" <= movie["release_date"][:4] <= "2025"][:40]
    for number, share in enumerate((0.2, 0.4, 0.6)):
        run.until_stored(share)
        new = [
            {**movie, "id": 5_000_000 + 1_000 * number + place, "original_title": f"  {number} {place}"}
            for place, movie in enumerate(some)
        ]
        run.emulator.change_movies(upsert=new)
    run.until("complete as planned", lambda: run.stored() >= len(run.pages))
    before = datetime.now(UTC)
    run.plan()
    run.reelhaul("refresh", "--max-age", "0s", *run.request(), "--detach")
    run.until("refreshed", lambda: run.stored(since=before) >= len(run.pages))
    assert run.compare() == Comparison()
    # The refresh requests each page once more.
    run.extra = max(0, run.extra - len(run.pages))
    report("pages shift while they are fetched, then a refresh", run)


def test_half_of_all_responses_are_errors(rig: Start, report: Report) -> None:
    """Five errors in a row are then the API's fault: no page goes into quarantine."""
    run = rig(years=(2021, 2024))
    run.emulator.configure(faults=["status=500:p=0.5:match=discover"])
    run.beat()
    run.start_workers()
    run.backfill()
    run.until_complete()
    assert run.compare() == Comparison()
    # Requests beyond the plan are the limiter's probes, and pages that failing ones are compared with.
    assert run.extra <= run.unplanned + 0.05 * len(run.pages)
    report("every second response is an error", run)


#: How long a part of the API is down, in seconds.
DOWN_S = 20.0
PARTS = {
    "all genres": "match=with_genres",
    "one of two genres": "match=with_genres=18",
    "one year": "match=gte=2015-",
    "every second page": "match=[?&]page=2(&|$)",
    "a random half of all queries": "share=0.5:match=with_genres",
}


@pytest.fixture(scope="module")
def in_part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A fleet for one part of the API after the other."""
    with Rig(tmp_path_factory.mktemp("parts"), movies=24_000, years=(2012, 2017)) as run:
        run.beat()
        run.start_workers((), ("--pool", "prefork", "-c", "4"), ("--pool", "solo"))
        yield run


def assert_no_failures(run: Rig) -> None:
    """Nothing goes into quarantine for DOWN_S."""
    end = time.monotonic() + DOWN_S
    while time.monotonic() < end:
        assert list(run.database.failures.find({}, {"reason": 1})) == []
        run.check()
        time.sleep(LOOK_S)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_api_is_down(in_part: Rig, report: Report, part: str) -> None:
    """No page goes into quarantine meanwhile; soon after, all are stored."""
    run = in_part
    run.begin_anew()
    run.emulator.configure(faults=[f"status=500:{PARTS[part]}"])
    run.backfill()
    assert_no_failures(run)
    assert run.stored() < len(run.pages)
    run.emulator.configure(faults=[])
    run.fault_is_over()
    run.completes(probing=True)
    report(f"down for 20 s: {part}", run)


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_the_last_page_is_always_broken(rig: Start, pool: str) -> None:
    """No other request of the plan is left to compare it with."""
    run = rig(movies=600, years=(2023, 2024), REELHAUL_TICK_S="60")
    run.emulator.configure(faults=["status=500:match=with_genres=18&.*gte=2024-.*page=1(&|$)"])
    run.start_workers(("--pool", pool, "-c", "1"))
    run.reelhaul("backfill", "--genres", "Drama", "--years", "2024", "--detach")
    run.until("it is in quarantine", lambda: run.database.failures.count_documents({}) > 0)
    [failure] = run.database.failures.find()
    assert (failure["_id"], failure["class"], failure["status"]) == ("18:2024:1", "poison", 500)
    assert run.stored() == 0
