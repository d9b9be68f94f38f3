"""Documents as columns: one type each, whatever the documents say."""

import json
import math
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelhaul import UnknownColumn
from reelhaul.schema import DETAILS, MOVIES, Layout, settle

NAMES = {18: "Drama", 28: "Action"}
INT64 = st.integers(-(2**63), 2**63 - 1)
ANYTHING = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats() | st.text(max_size=12) | st.dates().map(str),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "cast", "crew", "results", "keywords"]), part, max_size=3
        )
    ),
    max_leaves=8,
)
DOCUMENT = st.dictionaries(
    st.sampled_from([*{column.path[0] for column in DETAILS if column.path[0] != "_meta"}, "new", "genres"]),
    ANYTHING,
    max_size=8,
)


def rows(documents: list[dict[str, Any]], *columns: str, **options: Any) -> list[Any]:
    """The values of each row."""
    batch = Layout(columns or None, names=NAMES, **options).batch(documents)
    return [tuple(row.values()) for row in batch.to_pylist()]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(st.lists(DOCUMENT, max_size=4), st.booleans())
def test_any_documents_fit(documents: list[dict[str, Any]], details: bool) -> None:
    layout = Layout(details=details, raw=True, names=NAMES)
    batch = layout.batch(documents)
    batch.validate(full=True)
    assert batch.schema == layout.schema
    assert batch.num_rows == len(documents)


@given(INT64 | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value(number: float) -> None:
    [as_float] = settle([number], pa.float64())
    [as_int] = settle([number], pa.int64())
    assert as_float == float(number)
    assert as_int is None or as_int == number
    assert as_int is not None or not float(number).is_integer() or not -(2**63) <= number < 2**63


@pytest.mark.parametrize(
    ("value", "settled"),
    [("1999-03-31", date(1999, 3, 31)), ("", None), (None, None), ("1999", None), ("1999-02-30", None),
     ("19990331", None), ("0000-01-01", None), (1999, None), ("१९९९-०३-३१", None)],
)  # fmt: skip
def test_dates(value: Any, settled: date | None) -> None:
    assert rows([{"release_date": value}], "release_date") == [(settled,)]


def test_documents_that_disagree() -> None:
    documents: list[dict[str, Any]] = [
        {"vote_average": 7, "vote_count": 5.0, "title": "x", "adult": True},
        {"vote_average": 7.2, "vote_count": 5.5, "title": 5, "adult": 1},
        {"vote_average": math.nan, "vote_count": True, "adult": None},
    ]
    assert rows(documents, "vote_average", "vote_count", "title", "adult") == [
        (7.0, 5, "x", True),
        (7.2, None, None, None),
        (None, None, None, None),
    ]


def test_genres_stand_beside_their_ids() -> None:
    documents: list[dict[str, Any]] = [
        {"genre_ids": [28, 18]},
        {"genre_ids": [18, "x", None, 10769.0]},
        {"genre_ids": []},
        {"genre_ids": "18"},
        {},
        {"genres": [{"id": 18, "name": "Drama"}, {"id": 28, "name": "Action"}]},
    ]
    assert rows(documents, "genre_ids", "genres") == [
        ([28, 18], ["Action", "Drama"]),
        ([18, 10769], ["Drama", "genre 10769"]),
        ([], []),
        (None, None),
        (None, None),
        ([18, 28], ["Drama", "Action"]),
    ]


def test_nested_parts_of_details_are_lists_of_structs() -> None:
    person = {"id": 6384, "name": "Keanu Reeves", "character": "Neo", "order": 0, "popularity": 40, "new": 1}
    whole = {
        "credits": {"cast": [person, "no person"], "crew": []},
        "keywords": {"keywords": [{"id": 1, "name": "hacker"}]},
        "production_companies": [{"id": 79, "name": "Village Roadshow", "logo_path": None}],
    }
    columns = ("cast", "crew", "keywords", "production_companies", "images")
    with pytest.raises(UnknownColumn, match="unknown column 'images'"):
        rows([whole], *columns, details=True)
    [(cast, crew, keywords, companies)] = rows([whole], *columns[:-1], details=True)
    [actor] = cast
    assert (actor["name"], actor["character"], actor["popularity"]) == ("Keanu Reeves", "Neo", 40.0)
    assert (crew, keywords) == ([], [{"id": 1, "name": "hacker"}])
    assert companies == [{"id": 79, "name": "Village Roadshow", "logo_path": None, "origin_country": None}]
    assert rows([{}], *columns[:-1], details=True) == [(None, None, None, None)]


def test_raw_has_the_fields_without_a_column() -> None:
    documents: list[dict[str, Any]] = [
        {"_id": 1, "id": 1, "title": "x", "new": {"a": [1, math.inf]}, "genres": 1},
        {"id": 2},
    ]
    [(_, unknown), (_, nothing)] = rows(documents, "id", raw=True)
    assert json.loads(unknown) == {"new": {"a": [1, None]}}
    assert nothing is None
    assert Layout(["raw"]).projection is None


def test_columns_are_chosen_in_their_order_and_only_they_are_read() -> None:
    layout = Layout(["title", "fetched_at", "genres", "title"])
    assert layout.schema.names == ["title", "fetched_at", "genres"]
    assert layout.projection == dict.fromkeys(["_id", "_meta", "genre_ids", "genres", "title"], 1)
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    batch = layout.batch([{"title": "x", "_meta": {"fetched_at": at}}, {"_meta": {"fetched_at": "today"}}])
    assert batch.column("fetched_at").to_pylist() == [at, None]


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        (["titel"], "unknown column 'titel'; expected some of: id, title"),
        ([], "none given"),
        (["rank"], "unknown column 'rank'"),
        (["cast"], "unknown column 'cast'"),
    ],
)
def test_unknown_columns(columns: list[str], error: str) -> None:
    with pytest.raises(UnknownColumn, match=f"columns: {error}"):
        Layout(columns)


def test_names_of_columns_are_distinct() -> None:
    for columns in (MOVIES, DETAILS):
        assert len({column.name for column in columns}) == len(columns)
