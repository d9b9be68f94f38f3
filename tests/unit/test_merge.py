"""Which version of a movie wins, without a database."""

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pages import AT, page_of
from worker.errors import Unstorable
from worker.keys import PageKey
from worker.records import Response
from worker.storage.merge import Version, versions_of

KEY = PageKey(18, "1999", 1)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MOVIES = st.dictionaries(st.text().filter(lambda name: name not in ("_id", "_meta")), JSON_VALUES).map(
    lambda fields: {**fields, "id": 603}
)


def version_of(movie: dict[str, Any], at: datetime = AT, key: PageKey = KEY) -> Version:
    return versions_of(key.id, page_of([movie], at=at))[movie["id"]]


@given(MOVIES)
def test_a_version_holds_the_movie_and_its_origin(movie: dict[str, Any]) -> None:
    version = version_of(movie)
    assert version.movie == movie
    assert (version.fetched_at, version.page) == (AT, KEY.id)
    document = version.document()
    assert document.pop("_id") == 603
    assert document.pop("_meta") == {
        "first_seen": AT,
        "fetched_at": AT,
        "page": KEY.id,
        "sha256": version.sha256,
    }
    assert document == movie
    assert list(document) == list(movie)


@given(MOVIES, st.randoms())
def test_the_digest_ignores_the_order_of_keys(movie: dict[str, Any], random: Any) -> None:
    names = list(movie)
    random.shuffle(names)
    assert version_of({name: movie[name] for name in names}).sha256 == version_of(movie).sha256


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": 1, "n": 1}, {"id": 1, "n": 1.0}),
        ({"id": 1, "n": 1}, {"id": 1, "n": True}),
        ({"id": 1, "n": None}, {"id": 1}),
        ({"id": 1, "n": ""}, {"id": 1, "n": None}),
        ({"id": 1, "n": [1, 2]}, {"id": 1, "n": [2, 1]}),
        ({"id": 1, "n": "é"}, {"id": 1, "n": "e\u0301"}),
        ({"id": 1, "n": -0.0}, {"id": 1, "n": 0.0}),
    ],
)
def test_different_values_have_different_digests(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert version_of(one).sha256 != version_of(other).sha256


def test_the_later_wins_then_the_larger_digest_then_the_larger_page() -> None:
    movie, changed = {"id": 1, "title": "a"}, {"id": 1, "title": "b"}
    later = AT + timedelta(milliseconds=1)
    low, high = sorted((version_of(movie), version_of(changed)), key=lambda version: version.sha256)
    assert version_of(low.movie, later).rank > high.rank > low.rank
    assert version_of(low.movie, key=PageKey(35, "1999", 1)).rank > low.rank
    assert high.rank > version_of(low.movie, key=PageKey(35, "1999", 1)).rank


def test_the_same_version_of_a_duplicate_wins_in_any_order() -> None:
    twins = [{"id": 1, "title": title} for title in "abc"]
    winners = {
        versions_of(KEY.id, page_of([*order, {"id": 2}]))[1].movie["title"] for order in permutations(twins)
    }
    assert len(winners) == 1


@pytest.mark.parametrize("name", ["_id", "_meta"])
def test_a_field_of_ours_is_unstorable(name: str) -> None:
    page = page_of([{"id": 1, "title": "fine"}, {"id": 603, name: 1}])
    with pytest.raises(Unstorable, match="movie 603 has a field of ours") as raised:
        versions_of(KEY.id, page)
    assert raised.value.response == Response(200, page.body)


def test_fields_like_ours_may_be_nested() -> None:
    movie = {"id": 603, "nested": {"_id": 1, "_meta": [{"_id": 2}]}}
    assert version_of(movie).movie == movie


def test_an_empty_page_has_no_versions() -> None:
    assert versions_of(KEY.id, page_of()) == {}
