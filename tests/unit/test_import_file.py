"""What counts as a movie in a file, and what as the time at which it was fetched."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from producer.cli.import_file import parse_fetched_at
from producer.import_file import as_list_item
from worker.errors import UsageError

ITEM = {"id": 603, "title": "The Matrix", "genre_ids": [28], "softcore": False}
NOW = datetime(2026, 5, 16, 9, tzinfo=UTC)
RETENTION = timedelta(days=180)


@pytest.mark.parametrize("item", [ITEM, {**ITEM, "genre_ids": []}, {**ITEM, "genres": "of an item"}])
def test_a_list_item_stays_as_it_is(item: dict[str, Any]) -> None:
    assert as_list_item(item) is item


def test_details_become_the_list_item_that_they_imply() -> None:
    details = {"id": 603, "title": "The Matrix", "softcore": False, "genres": [{"id": 28, "name": "Action"}]}
    details |= {"budget": 63_000_000, "runtime": 136, "credits": {"cast": []}}
    assert as_list_item(details) == ITEM


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([ITEM], "list instead of a JSON object"),
        (None, "NoneType instead of a JSON object"),
        ({**ITEM, "id": "603"}, "id '603', where a whole number above 0 was expected"),
        ({**ITEM, "id": True}, "id True, "),
        ({**ITEM, "id": 0}, "id 0, "),
        ({**ITEM, "id": 2**63}, "id 9223372036854775808, "),
        ({"id": 1399, "name": "Game of Thrones", "genre_ids": [18]}, "no title: not a movie"),
        ({"id": 603, "title": "as in the daily list"}, "neither genre_ids, a list of numbers, nor genres"),
        ({**ITEM, "genre_ids": ["28"]}, "neither genre_ids"),
        ({**ITEM, "genre_ids": [True]}, "neither genre_ids"),
        ({"id": 603, "title": "", "genres": [{"name": "Action"}]}, "neither genre_ids"),
        ({"id": 603, "title": "", "genres": '[{"id": 28}]'}, "neither genre_ids"),
    ],
)
def test_anything_else_is_no_movie(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"\A{words}"):
        as_list_item(value)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-05-15", datetime(2026, 5, 15, tzinfo=UTC)),
        ("2026-05-15T23:30", datetime(2026, 5, 15, 23, 30, tzinfo=UTC)),
        (" 2026-05-15T09:30:15.123987Z ", datetime(2026, 5, 15, 9, 30, 15, 123_000, tzinfo=UTC)),
        ("2026-05-16 11:00+02:00", NOW),
        ("2025-11-17T09:00Z", NOW - RETENTION),
    ],
)
def test_a_date_or_time_counts_as_utc(text: str, at: datetime) -> None:
    found = parse_fetched_at(text, NOW, RETENTION)
    assert (found, found.utcoffset()) == (at, timedelta(0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a date or time in ISO 8601, for instance"),
        ("yesterday", "expected a date or time in ISO 8601"),
        ("2026-02-30", "expected a date or time in ISO 8601"),
        ("0001-01-01T00:00+10:00", "expected a date or time in ISO 8601"),
        ("2026-05-16T11:01+02:00", "expected a time in the past; it is 2026-05-16 09:00 UTC"),
        ("2026-05-17", "expected a time in the past"),
        ("2025-11-17T08:59Z", r"older than REELHAUL_RETENTION \(180d\), .* fetch it again, or raise"),
        ("2017-09-28", "older than REELHAUL_RETENTION"),
    ],
)
def test_any_other_time_is_rejected(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"\A--fetched-at .*: {words}"):
        parse_fetched_at(text, NOW, RETENTION)
