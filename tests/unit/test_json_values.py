"""Values read one by one, from lines or an array, however the bytes are cut."""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.json_values import LONGEST, NotJson, json_values

VALUES = st.lists(
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=6) | st.none(), max_size=3),
    max_size=6,
)


def cut(content: bytes, size: int) -> list[bytes]:
    """Lines as a file gives them, in parts of `size` bytes at most."""
    lines = [line + b"\n" for line in content.split(b"\n")]
    lines[-1] = lines[-1].removesuffix(b"\n")
    return [line[at : at + size] for line in lines for at in range(0, len(line), size)]


def read(content: bytes, size: int = 1 << 18) -> list[Any]:
    return [value for _, value in json_values(iter(cut(content, size)))]


@given(VALUES, st.integers(1, 9), st.booleans(), st.sampled_from([None, 2]))
def test_lines_and_arrays_hold_the_same_values(
    values: list[Any], size: int, escape: bool, indent: int | None
) -> None:
    lines = "".join(json.dumps(value, ensure_ascii=escape) + "\n" for value in values)
    array = json.dumps(values, ensure_ascii=escape, indent=indent)
    for text in (lines, lines.removesuffix("\n"), lines.replace("\n", "\r\n\n"), array, f"\n {array}\n"):
        first, *rest = cut(text.encode(), size) or [b""]
        for start in (b"", b"\xef\xbb\xbf"):
            assert [value for _, value in json_values(iter([start + first, *rest]))] == values


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a":1}\n\n{"a":\n', r"line 3: not JSON: '{\"a\":'"),
        (b'{"a":1}\n{"a":NaN}', r"line 2: not JSON: NaN is not JSON"),
        (b'{"a":1e999}', r"line 1: not JSON: 1e999 is beyond a double"),
        (b'{"a":1}\n\xff', r"line 2: not UTF-8"),
        (b'{"a":' + b"[" * 100_000, r"line 1: nested too deeply"),
        (b'\n[{"a":1},\n\n{"a" 2}]', r"line 4, movie 2: not JSON: '{\"a\" 2}\]'"),
        (b'[{"a":1},\n{"a":Infinity}]', r"line 2, movie 2: not JSON: Infinity is not JSON"),
        (b'[{"a":1},\n{"a":2}', r"line 2, movie 2: the array has no end: the file is cut short"),
        (b'[{"a":1},\n{"a":2', r"line 2, movie 2: not JSON: '{\"a\":2'"),
        (b'[{"a":1}\n{"a":2}]', r"line 1, movie 1: '{' behind it, where , or \] was expected"),
        (b'[{"a":1}] x', r"line 1, movie 1: 'x' after the end of the array"),
        (b'[{"a":1},\n\n{"a":"\xff"}]', r"line 3: not UTF-8"),
        (b"[" * 100_000, r"line 1, movie 1: nested too deeply"),
        (b"[", r"line 1: the array has no end"),
        (b"\x80\x04\x95 a pickle", r"line 1: not UTF-8"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(content: bytes, words: str) -> None:
    for size in (3, 1 << 18):
        with pytest.raises(NotJson, match=rf"\A{words}"):
            read(content, size)


def test_the_values_before_come_first() -> None:
    found = json_values(iter([b'{"a":1}\n', b"x\n"]))
    assert next(found) == ("line 1", {"a": 1})
    with pytest.raises(NotJson):
        next(found)


@pytest.mark.parametrize("start", [b'{"a":"', b'[{"a":"'])
def test_a_value_without_end_is_not_read_to_the_end(start: bytes) -> None:
    taken = count()

    def pieces() -> Any:
        yield start
        while True:
            next(taken)
            yield b"x" * (1 << 18)

    with pytest.raises(NotJson, match="more than"):
        list(json_values(pieces()))
    assert next(taken) <= 4 * LONGEST / (1 << 18)


def test_an_array_is_read_in_flat_memory() -> None:
    """No piece is held longer than the values in it need."""
    read_pieces = 0

    def pieces() -> Any:
        nonlocal read_pieces
        for number in range(50):
            read_pieces = number
            yield b"[" * (number == 0) + b'{"a":1},' * 1_000
        yield b'{"a":1}]'

    for number, _ in enumerate(json_values(pieces())):
        assert read_pieces <= number // 1_000 + 1
    assert number == 50_000
