"""Data that parsers and databases dislike is stored as it came, or quarantined with a reason."""

from collections.abc import Callable

import pytest

from tests.chaos.harness import Rig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

#: Payloads that MongoDB can hold.
KEPT = ("duplicates", "keys", "megabyte")
#: MongoDB rejects more than 100 levels; the embedded server keeps them.
KEPT_OR_REJECTED = "nesting"
#: Payloads that MongoDB cannot hold, or that are not a page: the failure's class, and a part of its reason.
REJECTED = {
    "abyss": ("poison", "JSON"),
    "bad-ids": ("poison", "ids"),
    "bad-rows": ("poison", "objects with ids"),
    "big-id": ("unstorable", "8-byte"),
    "bigint": ("unstorable", "8-byte"),
    "nan": ("poison", "JSON"),
    "nul": ("unstorable", ""),
    "oversize": ("poison", "bytes"),
    "reserved": ("unstorable", "_id"),
    "surrogate": ("unstorable", ""),
}
FIRST_YEAR = 2010


def test_hostile_pages(rig: Start, report: Report) -> None:
    """Each payload is on one page of its own cell, in every response."""
    run = rig()
    struck = dict(zip((*KEPT, *REJECTED, KEPT_OR_REJECTED), range(FIRST_YEAR, 2025), strict=False))
    run.emulator.configure(
        faults=[
            f"hostile={payload}:match=with_genres=35&.*gte={year}-.*page=2(&|$)"
            for payload, year in struck.items()
        ]
    )
    run.beat()
    run.start_workers()
    run.backfill()
    run.until_complete()
    found = run.compare()
    rejected = {f"35:{struck[payload]}:2" for payload in REJECTED}
    perhaps = f"35:{struck[KEPT_OR_REJECTED]}:2"
    assert rejected <= set(found.quarantined) <= rejected | {perhaps}
    assert found.missing == sorted(found.quarantined)
    for payload, (class_, text) in REJECTED.items():
        failure = run.database.failures.find_one({"_id": f"35:{struck[payload]}:2"})
        assert failure is not None, payload
        assert (failure["class"], text in failure["reason"]) == (class_, True), (payload, failure["reason"])
        assert failure["body"] or payload == "oversize"
    kept = {
        payload: run.database.pages.find_one({"_id": f"35:{struck[payload]}:2"})
        for payload in (*KEPT, KEPT_OR_REJECTED)
    }
    ids = {payload: page["movie_ids"] for payload, page in kept.items() if page}
    # An id that comes twice on a page is stored twice; the movie that it displaced is missing.
    assert found.doubled == [f"35:{struck['duplicates']} {ids['duplicates'][0]}"]
    assert ids["duplicates"][0] == ids["duplicates"][-1]
    changed = {f"movie {movie_ids[0]}" for movie_ids in ids.values()} | {f"cell 35:{struck['duplicates']}"}
    assert set(found.wrong) <= changed
    for payload, field, value in (
        ("keys", "a.b", 1),
        ("keys", "$set", {"$where": "1"}),
        ("megabyte", "overview", "x" * 1_000_000),
    ):
        stored = run.database.movies.find_one({"_id": ids[payload][0]})
        assert stored is not None
        # A page of another genre may have brought the movie unspoiled later.
        assert stored.get(field) == value or not stored["_meta"]["page"].startswith("35:")
    assert not any("Traceback" in worker.log_text() for worker in run.workers)
    found.doubled.clear()  # the emulator doubled it
    report("hostile data on 14 pages, of which 11 cannot be kept", run)
