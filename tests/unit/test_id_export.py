"""Lines of the daily list of ids."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.storage.id_export import LONGEST_LINE, parse_line

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=10), VALUES, max_size=4), st.integers(1, 2**63 - 1))
def test_a_line_with_an_id_keeps_all_its_fields(others: dict[str, object], id_: int) -> None:
    line = json.dumps({**others, "id": id_})
    # Compared as text, since NaN differs from NaN.
    assert json.dumps(parse_line(line.encode() + b"\n")) == line


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_movie_with_an_id_or_an_error_in_words(line: bytes) -> None:
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
def test_errors_name_what_is_wrong(line: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_line(line)
