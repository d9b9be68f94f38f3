"""The emulator's catalogue: bytes as in the file, pages that partition, changes by day."""

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.emulator.catalog import GENRES, SORT_FIELDS, Catalog, ChangedMovie, DateRange, Movie, Query
from sandbox.emulator.items import CatalogError, ItemError, encode, parse_movie, read_catalog, to_movie
from sandbox.emulator.synthetic import synthetic_movies

SORTS = [f"{field}.{direction}" for field in SORT_FIELDS for direction in ("asc", "desc")]
ITEM = '{"id": 603, "title": "The  \\"Matrix\\" ", "vote": 7.50, "new": {"a.b": [1e2, 18446744073709551616]}}'


def movie(movie_id: int, **fields: Any) -> Movie:
    item = {"id": movie_id, **fields}
    return to_movie(item, encode(item))


def ids(catalog: Catalog, query: Query) -> list[int]:
    return [found.id for found in catalog.select(query)]


movies = st.lists(
    st.builds(
        movie,
        st.integers(1, 10**9),
        title=st.text(max_size=3),
        original_title=st.text(max_size=3),
        popularity=st.sampled_from([0, 0.5, 1, 7.5]),
        release_date=st.sampled_from(["", "1999-01-01", "1999-03-31", "2000-01-01"]),
        vote_average=st.integers(0, 3),
        vote_count=st.integers(0, 3),
        genre_ids=st.lists(st.sampled_from([18, 28, 35]), max_size=3),
    ),
    unique_by=lambda found: found.id,
    max_size=60,
)


@given(movies, st.randoms(use_true_random=False), st.sampled_from(SORTS))
def test_every_order_is_total_and_independent_of_the_file(found: list[Movie], rng: Any, sort_by: str) -> None:
    shuffled = list(found)
    rng.shuffle(shuffled)
    first = ids(Catalog(found), Query(sort_by=sort_by))
    assert sorted(first) == sorted(each.id for each in found)
    assert ids(Catalog(shuffled), Query(sort_by=sort_by)) == first


@given(movies)
def test_years_and_undated_movies_partition_the_catalogue(found: list[Movie]) -> None:
    catalog = Catalog(found)
    parts = [
        ids(catalog, Query(primary=DateRange(f"{year}-01-01", f"{year}-12-31"))) for year in (1999, 2000)
    ]
    undated = [each.id for each in found if not each.release_date]
    assert sorted(itertools.chain(*parts, undated)) == sorted(each.id for each in found)


def test_genres_are_an_and_of_ors() -> None:
    catalog = Catalog(
        [movie(1, genre_ids=[18]), movie(2, genre_ids=[18, 35]), movie(3, genre_ids=[28]), movie(4)]
    )
    assert sorted(ids(catalog, Query(genres=(frozenset({18}),)))) == [1, 2]
    assert ids(catalog, Query(genres=(frozenset({18}), frozenset({35})))) == [2]
    assert sorted(ids(catalog, Query(genres=(frozenset({35, 28}),)))) == [2, 3]
    assert ids(catalog, Query(genres=(frozenset({999}),))) == []


def test_a_rereleased_movie_is_in_two_release_years_and_one_primary_year() -> None:
    catalog = Catalog([movie(10, release_date="1999-05-05"), movie(11, release_date="1999-05-05")])
    later = DateRange("2000-01-01", "2000-12-31")
    assert ids(catalog, Query(released=later)) == [10]
    assert ids(catalog, Query(primary=later)) == []


def test_an_unknown_order_means_popularity() -> None:
    catalog = Catalog([movie(1, popularity=1), movie(2, popularity=3), movie(3, popularity=2)])
    assert ids(catalog, Query(sort_by="id.asc")) == [2, 3, 1]


def test_changes_list_each_id_once_newest_first_and_deleted_ones_with_null() -> None:
    catalog = Catalog([movie(1), movie(2, adult=True), movie(3)])
    catalog.replace([movie(1, title="new")], [], "2026-01-01")
    catalog.replace([movie(2, adult=True), movie(1), movie(4)], [3, 99], "2026-01-02")
    assert catalog.changes("2026-01-01", "2026-01-02") == [
        ChangedMovie(3, None),
        ChangedMovie(4, False),
        ChangedMovie(1, False),
        ChangedMovie(2, True),
    ]
    assert catalog.changes("2026-01-01", "2026-01-01") == [ChangedMovie(1, False)]
    assert catalog.get(3) is None
    assert sorted(ids(catalog, Query())) == [1, 2, 4]


def test_tokens_are_kept_as_they_are_written() -> None:
    raw = parse_movie(ITEM.encode()).raw
    assert raw == (
        b'{"id":603,"title":"The  \\"Matrix\\" ","vote":7.50,"new":{"a.b":[1e2,18446744073709551616]}}'
    )


@given(st.recursive(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_compact_changes_no_value(value: Any) -> None:
    item = {"id": 1, "value": value, value if isinstance(value, str) else "key": " \t"}
    assert json.loads(parse_movie(json.dumps(item, indent=3).encode()).raw) == item


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_a_file_is_read_plain_or_gzip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"movies.{suffix}"
    lines = f'{ITEM}\n\n{{"id":604}}\n'.encode()
    path.write_bytes(gzip.compress(lines) if suffix.endswith("gz") else lines)
    assert [each.id for each in read_catalog(path)] == [603, 604]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not JSON"),
        (b"[1]", "expected a JSON object, got list"),
        (b'{"id":"1"}', "id must be an integer above 0, got '1'"),
        (b'{"id":true}', "id must be"),
        (b'{"id":603}', "id 603 is on line 1 too"),
        (b'{"id":1,"genre_ids":[1.5]}', "genre_ids must be a list of integers"),
        (b'{"id":1,"popularity":"high"}', "popularity must be a number"),
        (b'{"id":1,"popularity":NaN}', "NaN is not JSON"),
        (b'{"id":1,"release_date":1999}', "release_date must be a string"),
        (b'{"id":1,"title":"\xff"}', "not UTF-8"),
        (b'{"id":1,"deep":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "cannot be read"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "movies.jsonl"
    path.write_bytes(ITEM.encode() + b"\n" + line + b"\n")
    with pytest.raises(CatalogError) as caught:
        list(read_catalog(path))
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_names_a_damaged_or_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "movies.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id":1}\n' * 1)[:-9])
    with pytest.raises(CatalogError, match="line 2: the gzip stream is damaged"):
        list(read_catalog(path))
    with pytest.raises(CatalogError, match="No such file"):
        list(read_catalog(tmp_path / "none.jsonl"))


def test_an_item_needs_only_an_id() -> None:
    assert to_movie({"id": 1, "poster_path": None}, b"{}").title == ""
    with pytest.raises(ItemError, match="id must be"):
        to_movie({"title": "none"}, b"{}")


def test_the_seed_determines_synthetic_movies() -> None:
    assert list(synthetic_movies(50, 1)) == list(synthetic_movies(50, 1))
    assert list(synthetic_movies(50, 1)) != list(synthetic_movies(50, 2))


def test_synthetic_movies_parse_to_equal_movies() -> None:
    assert all(parse_movie(each.raw) == each for each in synthetic_movies(300, 3))


def test_synthetic_movies_have_the_oddities_of_real_ones() -> None:
    found = list(synthetic_movies(4000, 7))
    items = [json.loads(each.raw) for each in found]
    assert len({each.id for each in found}) == 4000
    assert 2.3 < sum(len(each.genre_ids) for each in found) / 4000 < 2.5
    assert {genre_id for each in found for genre_id in each.genre_ids} == set(GENRES)
    assert any(each.release_date == "" for each in found)
    assert any(each.release_date > "2027" for each in found)
    assert Counter(each.release_date[4:] for each in found).most_common(1)[0][0] == "-01-01"
    years = Counter(each.release_date[:4] for each in found)
    assert years["2020"] > years["1990"] > years["1950"]
    assert any(item["genre_ids"] == [] for item in items)
    assert any(item["overview"] == "" for item in items)
    assert any(item["poster_path"] is None for item in items)
    assert any(not item["title"].isascii() for item in items)
    assert {type(item["vote_average"]) for item in items} == {int, float}
    assert all(item["softcore"] is False for item in items)
    assert any("availability" in item for item in items)


def test_a_genres_own_words_are_only_in_its_overviews() -> None:
    found = [each for each in synthetic_movies(2000, 7) if b"gunslinger" in each.raw]
    assert found
    assert all(37 in each.genre_ids for each in found)
