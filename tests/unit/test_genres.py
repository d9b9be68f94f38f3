"""Counting genres and their pairs."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.cli.genres import _pairs_table, _table, tally
from producer.cli.render import console


@given(st.lists(st.lists(st.integers(1, 6), max_size=5), max_size=30))
def test_each_movie_counts_once_for_each_genre_and_pair(movies: list[list[int]]) -> None:
    seen: list[int] = []
    counts = tally(movies, lambda: seen.append(1))
    assert counts.movies == len(movies) == len(seen)
    assert counts.without == sum(not ids for ids in movies)
    for genre in range(1, 7):
        assert counts.single[genre] == sum(genre in ids for ids in movies)
    for one, other in combinations(range(1, 7), 2):
        assert counts.pairs[one, other] == sum({one, other} <= set(ids) for ids in movies)


def test_no_movies_count_nothing() -> None:
    assert (tally([]).single, tally([]).pairs) == (Counter(), Counter())


def test_what_is_not_a_genre_id_is_ignored() -> None:
    counts = tally([None, [18, "x", None, [35], True], 7, [18]])
    assert (counts.movies, counts.without, counts.single) == (4, 2, Counter({18: 2}))


def test_markup_in_a_genre_name_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    names = {18: "Dra[/red]ma", 35: "[bold]"}
    for table in (_table, _pairs_table):
        console().print(table(tally([[18, 35]]), names))
        printed = capsys.readouterr().out
        assert all(name in printed for name in names.values())
