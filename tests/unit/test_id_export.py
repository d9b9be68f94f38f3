"""Lines of the daily list, names of where it came from, and two lists side by side."""

import json
from array import array
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.audit import differ, made_at
from producer.cli.ids import named_source
from worker.errors import UsageError
from worker.storage.id_export import LONGEST_LINE, Loaded, parse_line

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
IDS = st.sets(st.integers(1, 2**63 - 1) | st.integers(1, 50))


@given(st.dictionaries(st.text(max_size=10), VALUES, max_size=4), st.integers(1, 2**63 - 1))
def test_a_line_with_an_id_is_kept_as_it_is(others: dict[str, object], id_: int) -> None:
    line = json.dumps({**others, "id": id_})
    # Compared as text: NaN is no NaN.
    assert json.dumps(parse_line(line.encode() + b"\n")) == line


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_movie_with_an_id_or_refused_in_words(line: bytes) -> None:
    words, movie = "", {"id": 1}
    try:
        movie = parse_line(line)
    except ValueError as error:
        words = str(error)
    assert words.isprintable()
    assert 0 < movie["id"] < 2**63


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"7", "int instead of a JSON object"),
        (b'{"id": 0}', "id 0, where a whole number above 0 was expected"),
        (b'{"id": true}', "id True"),
        (b'{"id": "7"}', "id '7'"),
        (b'{"id": 7.0}', "id 7.0"),
        (b'{"adult": false}', "id None"),
        (b'{"id": 9223372036854775808}', "id 9223372036854775808"),
        (b'{"id": 7', "not JSON"),
        (b'{"id": 7, "original_title": "\xff"}', "not UTF-8"),
        (b"[" * LONGEST_LINE, "not JSON"),
        (b" " * (LONGEST_LINE + 1), "more than 8,192 bytes"),
    ],
)
def test_what_is_wrong_with_a_line(line: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_line(line)


@given(IDS, IDS)
def test_what_only_one_of_two_lists_has(listed: set[int], stored: set[int]) -> None:
    missing, unlisted = differ(array("q", sorted(listed)), iter(sorted(stored)))
    assert missing.tolist() == sorted(listed - stored)
    assert unlisted.tolist() == sorted(stored - listed)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("some/folder/movie_ids_05_15_2026.json.gz", "movie_ids_05_15_2026.json.gz"),
        ("https://user:secret@files.example:8443/p/a.gz?key=secret#x", "https://files.example:8443/p/a.gz"),
        ("HTTP://Files.Example/a", "http://files.example/a"),
    ],
)
def test_no_secret_is_kept_of_where_a_list_came_from(source: str, named: str) -> None:
    assert named_source(source) == named


@pytest.mark.parametrize("source", ["http:///a", "http://[::1/a", "http://host:port/a"])
def test_an_address_that_is_none_is_refused_and_not_repeated(source: str) -> None:
    with pytest.raises(UsageError, match="the address of the list"):
        named_source(source)


def test_a_list_is_of_the_day_in_its_name_or_of_the_time_it_was_loaded() -> None:
    at = datetime(2026, 5, 16, 9, tzinfo=UTC)
    dated, undated, no_day = (
        Loaded(1, 1, name, at)
        for name in ("https://host/p/movie_ids_05_15_2026.json.gz", "ids.gz", "movie_ids_13_40_2026.json.gz")
    )
    assert made_at(dated) == datetime(2026, 5, 15, tzinfo=UTC)
    assert made_at(undated) == made_at(no_day) == at
