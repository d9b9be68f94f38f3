"""Promises about storage: merging, missing pages, quarantine, claims, clocks ahead."""

from tests.mutants.mutant import Mutant

PAGES = "worker/storage/pages.py"
MERGE = "worker/storage/merge.py"
MONGO = "worker/storage/mongo.py"
MERGE_TESTS = "tests/integration/test_storage_merge.py"
MERGING = f"{MERGE_TESTS}::TestMerging"
IMPORT_TESTS = "tests/integration/test_import_file.py"
PAGE_TESTS = "tests/integration/test_storage_pages.py"
FAILED_WRITES = "tests/integration/test_storage_mongo.py::test_failed_writes_are_mongo_unavailable"
CLOCK_TESTS = "tests/integration/test_clock_ahead.py"

ENDS = "Every planned page ends in `pages` or in `failures`, whatever dies"
ORDER = "What is stored does not depend on how often, or in which order, pages are delivered"
IMPORT = "`import` takes a file whole, or not at all when something in it is no movie"
OLDER = "An older response never replaces a newer one"
AHEAD = "A clock that was ahead blocks nothing"
HOSTILE = "stored as it came, or in `failures` with a reason; no worker ends, no page is stuck"

MUTANTS = (
    Mutant(
        "movies-before-the-page-record",
        ENDS,
        PAGES,
        "saved = self._movies.save_page(key.id, page)",
        "self.save_record(key, page)\n        saved = self._movies.save_page(key.id, page)",
        f"{MERGE_TESTS}::TestStorable::test_what_mongodb_cannot_hold_is_unstorable[bigint]",
        quick=True,
    ),
    Mutant(
        "older-movie",
        OLDER,
        MERGE,
        'return self.rank > (stored["fetched_at"]',
        'return True or self.rank > (stored["fetched_at"]',
        f"{MERGING}::test_older_never_replaces_newer",
    ),
    Mutant(
        "older-page-record",
        OLDER,
        PAGES,
        'and rank <= (stored["fetched_at"], stored["sha256"]):',
        "and False:",
        f"{MERGING}::test_older_never_replaces_newer",
    ),
    Mutant(
        "unchecked-import",
        IMPORT,
        "producer/import_file.py",
        "_movies(file, checking, check=True)",
        "_movies(file, checking, check=False)",
        f"{IMPORT_TESTS}::test_a_bad_line_is_named_and_nothing_is_stored",
    ),
    Mutant(
        "import-that-always-wins",
        OLDER,
        "worker/storage/imports.py",
        "version_of(movie, fetched_at, ",
        "version_of(movie, storage.mongo.now(), ",
        f"{IMPORT_TESTS}::test_what_was_fetched_later_stays",
    ),
    Mutant(
        "ties",
        "ties go to the larger sha256, then to the larger page key",
        MERGE,
        "return self.fetched_at, self.sha256, self.page",
        'return self.fetched_at, self.sha256, ""',
        "tests/unit/test_merge.py::test_the_later_wins_then_the_larger_digest_then_the_larger_page",
    ),
    Mutant(
        "first-seen-of-a-newer-version",
        "`first_seen` is the smallest",
        MERGE,
        '"first_seen": min(earlier.get("first_seen", self.fetched_at), self.fetched_at),',
        '"first_seen": self.fetched_at,',
        f"{MERGING}::test_a_newer_version_replaces_all_fields",
    ),
    Mutant(
        "first-seen-of-an-older-version",
        "`first_seen` is the smallest",
        MERGE,
        'return {**stored, "first_seen": min(stored["first_seen"], version.fetched_at)}',
        "return stored",
        f"{MERGING}::test_older_never_replaces_newer",
    ),
    Mutant(
        "compare-and-swap-of-movies",
        "Every write is a compare-and-swap on the `_meta` that was read.",
        MERGE,
        "_replacement(as_read, ",
        '_replacement({"_id": id_}, ',
        f"{MERGING}::test_a_newer_movie_written_meanwhile_is_kept[a newer one]",
    ),
    Mutant(
        "compare-and-swap-of-first-seen",
        ORDER,
        MERGE,
        "UpdateOne(as_read, ",
        'UpdateOne({"_id": id_}, ',
        f"{MERGING}::test_a_newer_movie_written_meanwhile_is_kept[an older one]",
    ),
    Mutant(
        "compare-and-swap-of-page-records",
        ORDER,
        PAGES,
        'self.collection.update_one(unchanged, {"$set": record}).matched_count',
        'self.collection.update_one({"_id": key.id}, {"$set": record}).matched_count',
        f"{MERGING}::test_a_newer_page_record_written_meanwhile_is_kept",
    ),
    Mutant(
        "fresh-page-is-not-requested",
        "one request per page",
        "worker/tasks.py",
        "if retry_storage(lambda: kind.is_done(storage(), fetch), deadlines.waiting):",
        "if False:",
        "tests/unit/test_retry.py::test_a_fresh_page_is_not_requested",
    ),
    Mutant(
        "refresh-asks-again",
        "displaced movies are stored after a `reelhaul refresh`",
        PAGES,
        'query["fetched_at"] = self._mongo.since(fresh_after)',
        "pass",
        f"{PAGE_TESTS}::test_a_page_is_fresh_if_requested_since",
    ),
    Mutant(
        "newer-records-beyond-the-end",
        "No movie is removed because a response lacks it.",
        PAGES,
        ', "fetched_at": {"$lt": fetched_at}}',
        "}",
        f"{PAGE_TESTS}::TestDropBeyond::test_records_beyond_the_end_are_deleted_unless_newer",
    ),
    Mutant(
        "gone-is-a-tombstone",
        "sets `_meta.gone_at`; deletes nothing",
        "worker/storage/movies.py",
        'collection.update_many({**known, "_meta.gone_at": not_later}, gone)',
        "collection.delete_many(known)",
        "tests/integration/test_storage_movies.py::TestGone::test_a_gone_movie_is_kept_but_not_listed",
    ),
    Mutant(
        "quarantined-is-not-missing",
        ENDS,
        PAGES,
        ", *self._failures.failed(ids, fresh_after)}",
        "}",
        f"{PAGE_TESTS}::TestMissing::test_pages_in_quarantine_are_not_missing",
    ),
    Mutant(
        "full-disk-is-only-for-now",
        "nothing is acknowledged before it is stored, nothing is quarantined",
        MONGO,
        "_DOCUMENT_CODES = {2, ",
        "_DOCUMENT_CODES = {14031, 2, ",
        f"{FAILED_WRITES}[full]",
    ),
    Mutant(
        "unjournalled-is-not-stored",
        "nothing is acknowledged before it is stored, nothing is quarantined",
        MERGE,
        'error.details["writeErrors"]} != {DUPLICATE}:',
        'error.details["writeErrors"]} - {DUPLICATE}:',
        f"{FAILED_WRITES}[journal]",
    ),
    Mutant(
        "mongodb-away-is-waited-for",
        "fetched pages wait in their tasks, others in the queue; none is quarantined",
        "worker/retry.py",
        "if time.monotonic() + pause_s > deadline:",
        "if True:",
        "tests/unit/test_retry.py::test_storage_is_retried_while_mongodb_is_unavailable",
    ),
    Mutant(
        "slow-mongodb",
        "everything waits for it",
        "worker/clients.py",
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
        f"{MERGE_TESTS}::TestStorable::test_a_movie_is_stored_field_by_field_in_order[$set]",
    ),
    Mutant(
        "fields-of-ours",
        HOSTILE,
        MERGE,
        'if "_id" in movie or "_meta" in movie:',
        "if False:",
        "tests/unit/test_merge.py::test_a_field_of_ours_is_unstorable[_id]",
    ),
    Mutant(
        "hostile-reason",
        HOSTILE,
        "worker/storage/failures.py",
        '"reason": _storable(str(failure)[:500]),',
        '"reason": str(failure),',
        "tests/integration/test_storage_failures.py::test_any_reason_can_be_stored[HTTP 404: \\ud800]",
    ),
    Mutant(
        "one-claim-of-what-is-due",
        "one refresh a day",
        "worker/storage/mongo.py",
        "except DuplicateKeyError:\n            return False",
        "except DuplicateKeyError:\n            return True",
        "tests/integration/test_storage_schedule.py::test_one_of_eight_concurrent_claims_succeeds",
        quick=True,
    ),
    Mutant(
        "future-movie-wins",
        AHEAD,
        MERGE,
        'return known if known["fetched_at"] <= latest else {**known, "fetched_at": EPOCH}',
        "return known",
        f"{CLOCK_TESTS}::test_a_newer_response_wins_over_one_from_the_future",
    ),
    Mutant(
        "future-page-record-wins",
        AHEAD,
        "worker/storage/documents.py",
        "isinstance(at, datetime) and at <= latest and",
        "isinstance(at, datetime) and",
        f"{CLOCK_TESTS}::test_a_newer_response_wins_over_one_from_the_future",
    ),
    Mutant(
        "future-page-is-fresh",
        AHEAD,
        MONGO,
        'return {"$gte": moment, "$lte": self.latest()}',
        'return {"$gte": moment}',
        f"{CLOCK_TESTS}::test_a_page_from_the_future_is_not_fresh",
    ),
    Mutant(
        "future-claim",
        AHEAD,
        "worker/storage/mongo.py",
        ', {"claimed_at": {"$gt": now + AHEAD}}]',
        "]",
        f"{CLOCK_TESTS}::test_a_schedule_entry_claimed_in_the_future_is_due",
    ),
    Mutant(
        "future-request",
        AHEAD,
        "producer/enqueue.py",
        'if document.get("requested_at", now) > storage.mongo.latest():',
        "if False:",
        f"{CLOCK_TESTS}::test_a_backfill_requested_in_the_future_ends",
    ),
    Mutant(
        "future-changes",
        AHEAD,
        "worker/storage/changes.py",
        'query["fetched_at"] = self._mongo.since(EPOCH)',
        "pass",
        f"{CLOCK_TESTS}::test_a_page_of_changes_from_the_future_is_ignored",
    ),
)
