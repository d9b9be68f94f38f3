"""What is promised of the store: order-free merging, what is missing, what is due."""

from tests.mutants.mutant import Mutant

STORE = "worker/store.py"
MERGE = "worker/merge.py"
TESTS = "tests/integration/test_store.py"
MERGING = f"{TESTS}::TestMerging"

ENDS = "Every planned page ends in `pages` or in `failures`, whatever dies"
ORDER = "The store does not depend on how often, or in which order, pages are delivered"
OLDER = "An older answer never replaces a newer one"
HOSTILE = "stored as it came, or in `failures` with a reason; no worker ends, no page is stuck"

MUTANTS = (
    Mutant(
        "movies-before-the-page-record",
        ENDS,
        STORE,
        "saved = merge(self.movies, versions_of(key.id, page))\n            self._mark(key, page)",
        "self._mark(key, page)\n            saved = merge(self.movies, versions_of(key.id, page))",
        f"{TESTS}::TestFaithfulness::test_what_mongodb_cannot_hold_is_unstorable[bigint]",
        quick=True,
    ),
    Mutant(
        "older-movie",
        OLDER,
        MERGE,
        'return version.rank > (stored["fetched_at"]',
        'return True or version.rank > (stored["fetched_at"]',
        f"{MERGING}::test_older_never_replaces_newer",
    ),
    Mutant(
        "older-page-record",
        OLDER,
        STORE,
        'if rank <= (stored["fetched_at"], stored["sha256"]):',
        "if False:",
        f"{MERGING}::test_older_never_replaces_newer",
    ),
    Mutant(
        "ties",
        "ties go to the larger sha256, then to the larger page key",
        MERGE,
        "return self.fetched_at, self.sha256, self.page",
        'return self.fetched_at, self.sha256, ""',
        "tests/unit/test_merge.py::test_the_later_answer_wins_then_the_larger_digest_then_the_larger_page",
    ),
    Mutant(
        "first-seen-of-a-newer-answer",
        "`first_seen` is the smallest",
        MERGE,
        '"first_seen": min(earlier.get("first_seen", self.fetched_at), self.fetched_at),',
        '"first_seen": self.fetched_at,',
        f"{MERGING}::test_newer_wins_whole_so_that_a_field_can_go",
    ),
    Mutant(
        "first-seen-of-an-older-answer",
        "`first_seen` is the smallest",
        MERGE,
        'meta = {**stored, "first_seen": min(stored["first_seen"], version.fetched_at)}',
        "meta = {**stored}",
        f"{MERGING}::test_older_never_replaces_newer",
    ),
    Mutant(
        "compare-and-swap-of-movies",
        "Every write is a compare-and-swap on the `_meta` that was read.",
        MERGE,
        'return _replacement({"_id": id_, "_meta": stored}, ',
        'return _replacement({"_id": id_}, ',
        f"{MERGING}::test_a_newer_movie_that_is_written_in_between_stays",
    ),
    Mutant(
        "compare-and-swap-of-first-seen",
        ORDER,
        MERGE,
        'return UpdateOne({"_id": id_, "_meta": stored}, ',
        'return UpdateOne({"_id": id_}, ',
        f"{MERGING}::test_first_seen_spares_what_is_written_in_between",
    ),
    Mutant(
        "compare-and-swap-of-page-records",
        ORDER,
        STORE,
        "self.pages.replace_one(stored, mark).matched_count",
        'self.pages.replace_one({"_id": key.id}, mark).matched_count',
        f"{MERGING}::test_a_newer_page_record_that_is_written_in_between_stays",
    ),
    Mutant(
        "done-is-not-asked-for",
        "one request a page",
        "worker/attempts.py",
        "if is_done and while_away(is_done, deadline):",
        "if False and is_done and while_away(is_done, deadline):",
        "tests/unit/test_attempts.py::test_what_is_done_is_not_asked_for",
    ),
    Mutant(
        "refresh-asks-again",
        "what was displaced is there after a `reelhaul refresh`",
        STORE,
        'query["fetched_at"] = {"$gte": fresh_after}\n    return query',
        "pass\n    return query",
        f"{TESTS}::TestRest::test_a_page_is_fresh_or_not",
    ),
    Mutant(
        "trim-spares-what-is-newer",
        "Nothing that was stored is ever removed because an answer lacks it.",
        STORE,
        'query = {"_id": {"$in": ids}, "fetched_at": {"$lt": asked_at}}',
        'query = {"_id": {"$in": ids}}',
        "tests/integration/test_movies.py::TestTrim::test_marks_beyond_the_new_end_go_unless_they_are_newer",
    ),
    Mutant(
        "gone-is-a-tombstone",
        "`_meta.gone_at`; nothing is deleted",
        "worker/movies.py",
        "self._movies.update_many(known, news)",
        "self._movies.delete_many(known)",
        "tests/integration/test_movies.py::TestGone::"
        "test_until_then_it_stays_and_the_movie_is_no_longer_counted_as_there",
    ),
    Mutant(
        "quarantined-is-not-missing",
        ENDS,
        STORE,
        'done.update(failure["_id"] for failure in self.failures.find(given_up, {"_id": 1}))',
        "pass",
        f"{TESTS}::TestMissing::test_not_what_is_in_quarantine",
    ),
    Mutant(
        "full-disk-is-only-for-now",
        "nothing is acknowledged that is not stored, nothing is quarantined",
        "worker/mongo.py",
        "_DOCUMENT_CODES = {2, ",
        "_DOCUMENT_CODES = {14031, 2, ",
        f"{TESTS}::TestRest::test_a_server_that_cannot_write_is_not_now[full]",
    ),
    Mutant(
        "unjournalled-is-not-stored",
        "nothing is acknowledged that is not stored, nothing is quarantined",
        MERGE,
        'error.details["writeErrors"]} != {_DUPLICATE}:',
        'error.details["writeErrors"]} - {_DUPLICATE}:',
        f"{TESTS}::TestRest::test_a_server_that_cannot_write_is_not_now[journal]",
    ),
    Mutant(
        "mongodb-away-is-waited-for",
        "fetched pages wait in their slots, others in the queue; none is given up",
        "worker/attempts.py",
        "if time.monotonic() + pause_s > deadline:",
        "if True:",
        "tests/unit/test_attempts.py::test_what_is_fetched_waits_for_mongodb",
    ),
    Mutant(
        "slow-mongodb",
        "all waits its turn",
        "worker/bootstrap.py",
        "socketTimeoutMS=10_000",
        "socketTimeoutMS=500",
        "tests/chaos/test_mongo.py::test_every_write_takes_a_second",
    ),
    Mutant(
        "names-with-dollars",
        HOSTILE,
        MERGE,
        'if any(name.startswith("$") for name in document):',
        "if False:",
        f"{TESTS}::TestFaithfulness::test_a_movie_comes_back_field_by_field_in_its_order[$set]",
    ),
    Mutant(
        "fields-of-ours",
        HOSTILE,
        MERGE,
        'if "_id" in movie or "_meta" in movie:',
        "if False:",
        "tests/unit/test_merge.py::test_a_field_of_ours_cannot_be_stored_as_it_is[_id]",
    ),
    Mutant(
        "hostile-reason",
        HOSTILE,
        STORE,
        '"reason": _storable(str(trouble)[:500]),',
        '"reason": str(trouble),',
        f"{TESTS}::TestQuarantine::test_takes_any_reason[HTTP 404: \\ud800]",
    ),
    Mutant(
        "one-claim-of-what-is-due",
        "one refresh a day",
        STORE,
        "except DuplicateKeyError:\n                return False",
        "except DuplicateKeyError:\n                return True",
        f"{TESTS}::TestRest::test_of_eight_that_claim_at_once_one_is_told_so",
        quick=True,
    ),
)
