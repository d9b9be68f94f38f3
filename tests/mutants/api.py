"""What is promised of TMDB's answers: what is believed, what is asked for again, what is given up."""

from tests.mutants.mutant import Mutant

ANSWERS = "worker/answers.py"
TMDB = "worker/tmdb.py"
ATTEMPTS = "worker/attempts.py"
UNIT = "tests/unit/test_tmdb_answers.py"
FAULTS = "tests/integration/test_tmdb.py::TestFaults::test_becomes_its_kind_of_trouble"
TRIED = "tests/unit/test_attempts.py"

NO_PAGE = "A body that is not a page is never stored as one"
AS_TOLD = "each fault of the API, alone and all at random"

MUTANTS = (
    Mutant(
        "other-page",
        NO_PAGE,
        ANSWERS,
        'if page != number:\n            raise Unparsable(f"page',
        'if False:\n            raise Unparsable(f"page',
        f"{FAULTS}[wrong-page-Unparsable]",
        quick=True,
    ),
    Mutant(
        "results-are-movies",
        NO_PAGE,
        ANSWERS,
        'not all(map(_has_id, results)):\n            raise Unparsable("results',
        'False:\n            raise Unparsable("results',
        f"{FAULTS}[hostile=bad-ids-Unparsable]",
    ),
    Mutant(
        "movies-beyond-the-end",
        NO_PAGE,
        ANSWERS,
        "if results and total_pages < number:",
        "if False:",
        "tests/integration/test_tmdb.py::TestFaults::test_movies_beyond_the_end_are_no_page",
    ),
    Mutant(
        "no-json",
        NO_PAGE,
        ANSWERS,
        "json.loads(response.body, parse_constant=_no_json)",
        "json.loads(response.body)",
        f"{FAULTS}[hostile=nan-Unparsable]",
    ),
    Mutant(
        "error-in-a-200",
        NO_PAGE,
        ANSWERS,
        "_disguised(code, response)\n    return",
        "pass\n    return",
        f"{FAULTS}[error-200=7-Forbidden]",
    ),
    Mutant(
        "5xx-is-only-for-now",
        AS_TOLD,
        ANSWERS,
        "if 400 <= status < 500 and",
        "if 400 <= status < 600 and",
        f"{FAULTS}[status=503/html-ApiTrouble]",
    ),
    Mutant(
        "404-of-a-proxy",
        AS_TOLD,
        ANSWERS,
        "and not (status == 404 and not message)",
        "",
        f"{FAULTS}[status=404/html-ApiTrouble]",
    ),
    Mutant(
        "endless-body",
        AS_TOLD,
        TMDB,
        "if size > LARGEST_BODY:",
        "if False:",
        f"{FAULTS}[hostile=oversize-ApiTrouble]",
    ),
    Mutant(
        "dripping-body",
        AS_TOLD,
        TMDB,
        "if time.monotonic() > until:\n            raise ApiTrouble",
        "if False:\n            raise ApiTrouble",
        f"{FAULTS}[drip=4-ApiTrouble]",
    ),
    Mutant(
        "retry-after",
        "what it says, at least 1 s",
        TMDB,
        "pause_s = pause_for(refusal.retry_after_s)",
        "pause_s = pause_for(None)",
        f"{UNIT}::TestRetryAfter::test_the_gate_pauses_for_what_was_asked[headers2-5.0-5.0]",
        quick=True,
    ),
    Mutant(
        "retry-after-date",
        "seconds, or an HTTP date (counted from the answer's own `Date`)",
        ANSWERS,
        'parsedate_to_datetime(headers["Date"]) if "Date" in headers else datetime.now(UTC)',
        "datetime.now(UTC)",
        f"{UNIT}::TestRetryAfter::test_seconds_or_a_date_that_counts_from_the_answers_own"
        "[Thu, 01 Jan 2026 00:00:09 GMT-9.0]",
    ),
    Mutant(
        "retry-after-absurd",
        "300 s; `reelhaul limit resume` ends it sooner",
        ANSWERS,
        "LONGEST_PAUSE_S)\n\n\ndef retry_after",
        "1e12)\n\n\ndef retry_after",
        f"{UNIT}::TestRetryAfter::test_the_pause_has_bounds[1000000000.0-300.0]",
    ),
    Mutant(
        "429-is-no-try",
        AS_TOLD,
        ATTEMPTS,
        "continue  # the gate has been told; wait there",
        "raise",
        f"{TRIED}::test_a_refusal_is_no_try",
    ),
    Mutant(
        "trouble-is-reported",
        "the gate closes, one probe at a time; no page is given up",
        TMDB,
        "self._limiter.trouble(permit)\n            raise",
        "raise",
        f"{UNIT}::TestGate::test_a_permit_that_wants_a_report_gets_one[503-body2-told2]",
    ),
    Mutant(
        "five-tries",
        "in `failures` with its answer after five tries; everything else completes",
        ATTEMPTS,
        "TRIES = 5",
        "TRIES = 6",
        f"{TRIED}::test_what_fails_every_time_is_poison_after_five_tries",
    ),
    Mutant(
        "failure-has-its-answer",
        "in `failures` with its answer after five tries; everything else completes",
        "worker/store.py",
        '"body": trouble.response.body[:KEPT_BODY],',
        '"body": b"",',
        "tests/integration/test_store.py::TestQuarantine::test_counts_attempts_and_keeps_first_and_last",
    ),
    Mutant(
        "nobody-is-blamed-while-the-api-is-flaky",
        "nobody blames a page for it: what succeeds only after failing tells of the API",
        ATTEMPTS,
        "if _lately.is_flaky():",
        "if False:",
        f"{TRIED}::test_while_the_api_fails_half_of_all_requests_no_page_is_blamed",
    ),
    Mutant(
        "times-are-redis",
        "every time that is stored is Redis'",
        TMDB,
        "result = read(self._send(path, query), permit.at)",
        "from datetime import UTC, datetime\n"
        "            result = read(self._send(path, query), datetime.now(UTC))",
        f"{UNIT}::TestPage::test_is_read_as_it_is",
    ),
)
