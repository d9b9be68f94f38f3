"""Requests: the same request is the same document, and comes back as it was."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import bson
import pytest

from producer.enqueue import KINDS
from producer.requests.backfills import Backfill, TotalsCheck
from producer.requests.changes import Changes
from producer.requests.movies import AgingMovies, Details
from producer.requests.popular import Popular
from producer.requests.request import Request

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = AT + timedelta(hours=1)
DAY = timedelta(days=1)
BACKFILL = Backfill({18: "Drama", 35: "Comedy"}, (1998, 1999), DAY, AT)
CHANGES = Changes(date(2026, 4, 29), again=False, new=True, requested_at=AT, schedule_entry="changes")
DETAILS = Details(("credits", "keywords"), None, listed=False, requested_at=AT)
AGING = AgingMovies(AT - 90 * DAY, AT - 80 * DAY, AT, "oldest")
ALL = [
    BACKFILL,
    replace(BACKFILL, max_age=None),
    TotalsCheck({18: "Drama"}, (1998,), DAY, AT, "totals"),
    Popular(50, DAY, AT),
    CHANGES,
    DETAILS,
    replace(DETAILS, max_age=DAY, listed=True),
    AGING,
]


@pytest.mark.parametrize("request_", ALL)
def test_a_request_comes_back_from_its_document(request_: Request) -> None:
    codec = bson.CodecOptions[dict[str, object]](tz_aware=True, tzinfo=UTC)
    document = bson.decode(bson.encode(request_.to_document()), codec)
    assert KINDS[str(document["kind"])].from_document(document) == request_


def test_every_kind_is_tested() -> None:
    assert {type(request_) for request_ in ALL} == set(KINDS.values())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BACKFILL, replace(BACKFILL, requested_at=LATER)),
        (BACKFILL, replace(BACKFILL, genres={35: "Komödie", 18: "Drama"})),
        (CHANGES, replace(CHANGES, first=date(2026, 4, 1), requested_at=LATER)),
        (DETAILS, replace(DETAILS, requested_at=LATER)),
        (AGING, replace(AGING, movies_before=AT, pages_before=AT, requested_at=LATER)),
    ],
)
def test_the_same_request_has_the_same_id(one: Request, other: Request) -> None:
    assert one.id == other.id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BACKFILL, replace(BACKFILL, genres={18: "Drama"})),
        (BACKFILL, replace(BACKFILL, years=(1998,))),
        (BACKFILL, replace(BACKFILL, max_age=2 * DAY)),
        (BACKFILL, replace(BACKFILL, schedule_entry="recent")),
        (BACKFILL, TotalsCheck(BACKFILL.genres, BACKFILL.years, BACKFILL.max_age, AT)),
        (CHANGES, replace(CHANGES, new=False)),
        (CHANGES, replace(CHANGES, again=True)),
        (DETAILS, replace(DETAILS, parts=("credits",))),
        (DETAILS, replace(DETAILS, listed=True)),
    ],
)
def test_another_request_has_another_id(one: Request, other: Request) -> None:
    assert one.id != other.id
