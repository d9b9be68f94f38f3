"""Data that parsers and databases dislike: stored faithfully, or quarantined with a reason; nothing stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.harness import Rig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

#: What MongoDB can hold as it came.
KEPT = ("duplicates", "keys", "megabyte")
#: MongoDB refuses more than 100 levels; the embedded server keeps them.
KEPT_OR_REFUSED = "nesting"
#: What it cannot, or what is no page: the class of the failure, and words of its reason.
REFUSED = {
    "abyss": ("poison", "JSON"),
    "bad-ids": ("poison", "ids"),
    "bad-rows": ("poison", "movies"),
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
    """Each payload on one page of a cell of its own, on every delivery."""
    run = rig()
    struck = dict(zip((*KEPT, *REFUSED, KEPT_OR_REFUSED), range(FIRST_YEAR, 2025), strict=False))
    run.emulator.configure(
        faults=[
            f"hostile={payload}:match=with_genres=35&.*gte={year}-.*page=2(&|$)"
            for payload, year in struck.items()
        ]
    )
    run.start_beat()
    run.start_workers()
    run.backfill()
    run.until_complete()
    audit = run.compare()
    refused = {f"35:{struck[payload]}:2" for payload in REFUSED}
    perhaps = f"35:{struck[KEPT_OR_REFUSED]}:2"
    assert refused <= set(audit.quarantined) <= refused | {perhaps}
    assert audit.lost == sorted(audit.quarantined)
    for payload, (class_, words) in REFUSED.items():
        failure = run.database.failures.find_one({"_id": f"35:{struck[payload]}:2"})
        assert failure is not None, payload
        assert (failure["class"], words in failure["reason"]) == (class_, True), (payload, failure["reason"])
        assert failure["body"] or payload == "oversize"
    kept = {
        payload: run.database.pages.find_one({"_id": f"35:{struck[payload]}:2"})
        for payload in (*KEPT, KEPT_OR_REFUSED)
    }
    ids = {payload: page["movie_ids"] for payload, page in kept.items() if page}
    # An id twice on a page is kept as it came; the one it displaced is missed, as TMDB's reader would.
    assert audit.doubled == [f"35:{struck['duplicates']} {ids['duplicates'][0]}"]
    assert ids["duplicates"][0] == ids["duplicates"][-1]
    changed = {f"movie {movie_ids[0]}" for movie_ids in ids.values()} | {f"cell 35:{struck['duplicates']}"}
    assert set(audit.wrong) <= changed
    for payload, field, value in (
        ("keys", "a.b", 1),
        ("keys", "$set", {"$where": "1"}),
        ("megabyte", "overview", "x" * 1_000_000),
    ):
        stored = run.database.movies.find_one({"_id": ids[payload][0]})
        assert stored is not None
        # Another genre's page may have had it later, in good order.
        assert stored.get(field) == value or not stored["_meta"]["page"].startswith("35:")
    assert not any("Traceback" in worker.log_text() for worker in run.workers)
    audit.doubled.clear()  # the catalogue's, not ours
    report("hostile data on 14 pages, of which 11 cannot be kept", run)
