"""Counting genres and their pairs."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.cli.genres import _pairs_table, _table, tally
from producer.cli.render import console


@given(st.lists(st.lists(st.integers(1, 6), max_size=5), max_size=30))
def test_every_movie_counts_once_for_each_of_its_genres_and_pairs(movies: list[list[int]]) -> None:
    seen: list[int] = []
    counted = tally(movies, lambda: seen.append(1))
    assert counted.movies == len(movies) == len(seen)
    assert counted.without == sum(not ids for ids in movies)
    for genre in range(1, 7):
        assert counted.single[genre] == sum(genre in ids for ids in movies)
    for one, other in combinations(range(1, 7), 2):
        assert counted.pairs[one, other] == sum({one, other} <= set(ids) for ids in movies)


def test_nothing_is_counted_of_nothing() -> None:
    assert (tally([]).single, tally([]).pairs) == (Counter(), Counter())


def test_what_is_no_genre_counts_for_nothing() -> None:
    counted = tally([None, [18, "x", None, [35], True], 7, [18]])
    assert (counted.movies, counted.without, counted.single) == (4, 2, Counter({18: 2}))


def test_a_name_with_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    names = {18: "Dra[/red]ma", 35: "[bold]"}
    for table in (_table, _pairs_table):
        console().print(table(tally([[18, 35]]), names))
        told = capsys.readouterr().out
        assert all(name in told for name in names.values())
