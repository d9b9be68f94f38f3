"""What a reader wants, as a query."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.keys import ANY_GENRE, Cell
from worker.storage.selection import ALL, Selection, cells_to_read, popular_ids, spans_of

AT = datetime(2026, 5, 1, tzinfo=UTC)


@given(st.sets(st.integers(1870, 1900)))
def test_spans_hold_just_these_years(years: set[int]) -> None:
    spans = list(spans_of(years))
    assert [year for first, last in spans for year in range(first, last + 1)] == sorted(years)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(spans))


def test_query() -> None:
    assert ALL.query() == {"_meta.gone_at": None}
    wanted = Selection((18, 35), (1999, 2000, 2002), AT)
    assert wanted.query() == {
        "_meta.gone_at": None,
        "genre_ids": {"$in": [18, 35]},
        "$or": [
            {"release_date": {"$gte": "1999", "$lt": "2001"}},
            {"release_date": {"$gte": "2002", "$lt": "2003"}},
        ],
        "_meta.fetched_at": {"$gte": AT},
    }
    one = Selection((18,), (1999, 2000))
    assert one.query() == {
        "_meta.gone_at": None,
        "genre_ids": 18,
        "release_date": {"$gte": "1999", "$lt": "2001"},
    }
    assert "genres.id" in wanted.query(details=True)
    assert Selection((18, ANY_GENRE)).query() == ALL.query()


def test_popular_movies_count_once_at_their_better_rank() -> None:
    records: list[dict[str, Any]] = [
        {"_id": "popular:10", "movie_ids": [7, 1]},
        {"_id": "popular:2", "movie_ids": [4, 2, 5]},
        {"_id": "popular:1", "movie_ids": [1, 2, 3]},
        {"_id": "popular:x", "movie_ids": [8]},
        {"_id": "popular:3"},
    ]
    assert popular_ids(records) == [1, 2, 3, 4, 5, 7]


def test_a_genre_is_read_from_the_whole_year_where_only_that_was_requested() -> None:
    requested = [Cell(ANY_GENRE, "2022"), Cell(ANY_GENRE, "2023"), Cell(18, "2023")]
    assert cells_to_read(requested, [18], [2022]) == [Cell(ANY_GENRE, "2022")]
    assert cells_to_read(requested, [18, 35], [2023]) == [Cell(18, "2023"), Cell(ANY_GENRE, "2023")]
    assert cells_to_read(requested, [18], [2024]) == [Cell(18, "2024")]
    assert cells_to_read(requested, [18, 35], [2022]) == [Cell(ANY_GENRE, "2022")]
