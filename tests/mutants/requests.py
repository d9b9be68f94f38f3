"""Requests of every kind: changes, totals, popular movies, details."""

from tests.mutants.mutant import Mutant

CHANGES = "worker/storage/changes.py"
PAGES = "worker/storage/pages.py"
KINDS = "worker/kinds.py"
ENTRIES = "producer/schedule/entries.py"
TWICE = "a changed movie is fetched at most twice for a day, and never without its last change"
STORED = "changes of movies that are not stored are left alone, unless `new` says otherwise"
WHOLE = "a cell whose total changed is fetched whole, the others cost one request and stay proven"
STORE_TESTS = "tests/integration/test_storage_changes.py"
REQUESTS = "tests/acceptance/test_requests.py"
STEERING = "tests/integration/test_steering.py"
CANCELLED = "a cancelled backfill makes at most as many more requests as there are worker threads"
SWEPT = "the sweep leaves alone what is cancelled or forgotten"

MUTANTS = (
    Mutant(
        "changes-of-a-day-that-is-over",
        TWICE,
        CHANGES,
        'needed.update(dict.fromkeys(record.get("movie_ids", ()), end))',
        "pass",
        f"{STORE_TESTS}::test_once_the_day_is_over_a_movie_must_be_fetched_after_it",
    ),
    Mutant(
        "first-listed-moves",
        TWICE,
        PAGES,
        '{"$min": earliest}',
        '{"$set": earliest}',
        f"{STORE_TESTS}::test_a_movie_is_needed_since_it_was_first_listed_in_any_order_of_delivery",
    ),
    Mutant(
        "listed-on-two-pages",
        TWICE,
        CHANGES,
        "known if known == end else min(known, listed)",
        "known if known == end else max(known, listed)",
        f"{STORE_TESTS}::test_a_movie_is_needed_since_it_was_first_listed_in_any_order_of_delivery",
    ),
    Mutant(
        "day-half-read",
        TWICE,
        CHANGES,
        'records[number]["fetched_at"] >= end',
        'records[number]["fetched_at"]',
        f"{STORE_TESTS}::test_the_first_unread_day",
    ),
    Mutant(
        "unfinished-reading",
        TWICE,
        "producer/requests/changes.py",
        "return min([since.date() if since else day, *unfinished])",
        "return since.date() if since else day",
        f"{REQUESTS}::test_an_unfinished_reading_is_not_forgotten_by_the_next_one",
    ),
    Mutant(
        "details-older-than-the-change",
        TWICE,
        "worker/storage/movies.py",
        'min(found[one["_id"]], known(one, "fetched_at"))',
        'found[one["_id"]]',
        f"{STORE_TESTS}::test_old_details_make_a_movie_lacking",
    ),
    Mutant(
        "old-reading",
        "a request ends when all that can be fetched is fetched",
        "producer/requests/changes.py",
        "return [day for day in self.days if day.day >= oldest]",
        "return self.days",
        f"{REQUESTS}::test_an_old_reading_of_changes_asks_for_nothing_and_sweeps_nothing",
    ),
    Mutant(
        "part-that-tmdb-leaves-out",
        "a request ends when all that can be fetched is fetched",
        "worker/storage/movies.py",
        '{"$and": [{"_meta.parts": part} for part in parts]} if parts else {}',
        '{part: {"$exists": True} for part in parts}',
        "tests/integration/test_storage_movies.py::TestDetails"
        "::test_a_part_that_tmdb_leaves_out_is_not_asked_for_again",
    ),
    Mutant(
        "unread-days-hidden",
        TWICE,
        "producer/requests/changes.py",
        "storage.changes.first_unread(max(oldest.date(), listed), now.date())",
        "storage.changes.first_unread(now.date(), now.date())",
        f"{REQUESTS}::test_a_late_since_hides_no_earlier_day",
    ),
    Mutant(
        "odd-request",
        "what another version or a person wrote stops no other request",
        "producer/enqueue.py",
        "with suppress(KeyError, TypeError, ValueError):",
        "with suppress(ZeroDivisionError):",
        f"{REQUESTS}::test_odd_requests_and_a_damaged_list_stop_no_other_request",
    ),
    Mutant(
        "every-changed-movie",
        STORED,
        CHANGES,
        "if not scope.new:",
        "if False:",
        f"{REQUESTS}::test_changes_of_movies_that_are_not_stored_are_left_alone",
    ),
    Mutant(
        "totals-ignored",
        WHOLE,
        PAGES,
        "if is_newer or first[:2] != latest[:2]:",
        "if is_newer:",
        f"{REQUESTS}::test_a_new_movie_makes_its_cells_be_fetched_whole_and_no_others",
    ),
    Mutant(
        "totals-as-page-1",
        WHOLE,
        KINDS,
        "storage.pages.save_record(fetch.key, page)",
        "storage.pages.save_record(fetch.key, page); storage.pages.save(fetch.key.cell.page(1), page)",
        f"{REQUESTS}::test_a_new_movie_makes_its_cells_be_fetched_whole_and_no_others",
    ),
    Mutant(
        "totals-of-all",
        "cells that were fetched lately are not asked for",
        "producer/requests/backfills.py",
        "for key in (TotalsKey(*cell), cell.page(1))",
        "for key in (TotalsKey(*cell),)",
        f"{REQUESTS}::test_totals_of_cells_that_were_fetched_lately_are_not_asked_for",
    ),
    Mutant(
        "recent-unasked",
        "`recent` keeps to the years that a backfill asked for",
        ENTRIES,
        "tuple(year for year in recent if year in requested.years)",
        "recent",
        f"{REQUESTS}::test_recent_keeps_to_the_years_that_a_backfill_asked_for",
    ),
    Mutant(
        "popular-unranked",
        "`popular` keeps the order and the membership, whatever is fetched later",
        PAGES,
        '"movie_ids": [movie["id"] for movie in page.results]',
        '"movie_ids": sorted(movie["id"] for movie in page.results)',
        "tests/acceptance/test_movies.py::test_popular_keeps_the_order_whatever_is_fetched_later",
    ),
    Mutant(
        "popular-without-end",
        "`popular` keeps the order and the membership, whatever is fetched later",
        "worker/keys.py",
        "min(total_pages, self.length)",
        "total_pages",
        "tests/acceptance/test_movies.py::test_popular_keeps_the_order_whatever_is_fetched_later",
    ),
    Mutant(
        "details-of-later-movies",
        "`details` ends: movies that are first seen later are not part of it",
        "worker/storage/movies.py",
        '"_meta.first_seen": {"$lte": moment}, ',
        "",
        "tests/integration/test_storage_movies.py::TestDetails::test_movies_without_details_by_age_and_parts",
    ),
    Mutant(
        "cancelled-unheard",
        CANCELLED,
        "worker/limiter/client.py",
        "self._redis.publish(self._channel, _CANCELLED)",
        "pass",
        f"{STEERING}::test_a_cancelled_backfill_makes_as_many_more_requests_as_there_are_threads",
    ),
    Mutant(
        "cancelled-with-what-others-want",
        "what another request wants as well is fetched all the same",
        "worker/active_requests.py",
        "return request_id in known.wanted",
        "return len(known.unwanted) == 0",
        f"{STEERING}::test_a_cancelled_backfill_makes_as_many_more_requests_as_there_are_threads",
    ),
    Mutant(
        "cancelled-swept",
        SWEPT,
        "producer/enqueue.py",
        "for document in storage.requests.all(cancelled=False):",
        "for document in storage.requests.all():",
        f"{STEERING}::test_messages_that_wait_are_dropped_and_not_sent_again[steer0]",
    ),
    Mutant(
        "forgotten-goes-on",
        SWEPT,
        "worker/tasks.py",
        "active_requests().includes(fetch.request)",
        "True",
        f"{STEERING}::test_messages_that_wait_are_dropped_and_not_sent_again[steer1]",
    ),
    Mutant(
        "resumed-in-name-only",
        "`resume` takes it up",
        "worker/storage/requests.py",
        '"ended_at": "", "cancelled_at": ""',
        '"ended_at": ""',
        f"{STEERING}::test_resume_takes_a_request_up_and_forget_keeps_what_it_fetched",
    ),
    Mutant(
        "plan-by-the-mean",
        "a plan's requests are within 5 % of what the run then takes",
        "producer/estimate.py",
        "cell: expected_requests(in_year[cell.window] * shares[cell.genre_id])",
        "cell: requests_for(all_movies / len(years) / len(genres))",
        "tests/unit/test_estimate.py::test_a_probe_is_within_five_percent[synthetic-since-1990]",
    ),
)
