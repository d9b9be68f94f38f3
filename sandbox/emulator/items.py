"""From JSON Lines of TMDB list items, plain or gzip, to movies; the bytes of every value stay as they are."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from sandbox.emulator.catalog import Movie

#: A JSON string (kept) or a run of white space between tokens (dropped).
_STRING_OR_SPACE = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
#: Above every revenue that an item does not name, in dollars.
_REVENUE_LIMIT = 400_000_000


class ItemError(ValueError):
    """No list item that could be served; the text says what was expected."""


class CatalogError(Exception):
    """A catalogue that cannot be served; the text is one line that begins with the file."""


def read_catalog(path: Path) -> Iterator[Movie]:
    """Yield the movies of a JSON Lines file (`.gz` or plain), skipping blank lines.

    Raises CatalogError, with file and line, for anything that is not a list item with an id of its own.
    """
    lines_of_ids: dict[int, int] = {}
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _new_movie(line, number, lines_of_ids)
    except ItemError as error:
        raise CatalogError(f"{path}, line {number}: {error}") from error
    except (EOFError, zlib.error) as error:
        raise CatalogError(f"{path}, line {number + 1}: the gzip stream is damaged ({error})") from error
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror or error}") from error


def _new_movie(line: bytes, number: int, lines_of_ids: dict[int, int]) -> Movie:
    movie = parse_movie(line)
    if (earlier := lines_of_ids.setdefault(movie.id, number)) != number:
        raise ItemError(f"id {movie.id} stands on line {earlier} too")
    return movie


def parse_movie(line: bytes) -> Movie:
    """A movie from one JSON object; white space between tokens goes, every token stays as it was written.

    Raises ItemError when it is no JSON object, or a field that selects or sorts has the wrong type.
    """
    try:
        item = json.loads(line, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ItemError(f"not UTF-8 ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise ItemError(f"not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise ItemError(f"JSON that cannot be read ({error})") from error
    if not isinstance(item, dict):
        raise ItemError(f"expected a JSON object, got {type(item).__name__}")
    return to_movie(item, compact(line))


def to_movie(item: dict[str, Any], raw: bytes) -> Movie:
    """A movie from a decoded list item and the bytes that say the same.

    Only `id` is required; missing fields read as TMDB's empty ones. Raises ItemError for a wrong type.
    """
    movie_id = item.get("id")
    if type(movie_id) is not int or movie_id < 1:
        raise ItemError(f"id must be an integer above 0, got {movie_id!r:.40}")
    genre_ids = item.get("genre_ids", [])
    if not isinstance(genre_ids, list) or not all(type(genre_id) is int for genre_id in genre_ids):
        raise ItemError(f"genre_ids must be a list of integers, got {genre_ids!r:.40}")
    return Movie(
        id=movie_id,
        raw=raw,
        genre_ids=tuple(genre_ids),
        release_date=_text(item, "release_date"),
        title=_text(item, "title"),
        original_title=_text(item, "original_title"),
        popularity=_number(item, "popularity"),
        vote_average=_number(item, "vote_average"),
        vote_count=_number(item, "vote_count"),
        revenue=_number(item, "revenue") if "revenue" in item else unnamed_revenue(movie_id),
        adult=None if item.get("adult", False) is None else item.get("adult") is True,
    )


def unnamed_revenue(movie_id: int) -> int:
    """List items name no revenue; sort_by=revenue needs one that is scattered and always the same."""
    return movie_id * 7919 % _REVENUE_LIMIT


def compact(line: bytes) -> bytes:
    """The JSON text without white space between its tokens."""
    return _STRING_OR_SPACE.sub(rb"\1", line)


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8, as TMDB writes it; a lone surrogate stays the escape it must be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _text(item: dict[str, Any], field: str) -> str:
    value = item.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ItemError(f"{field} must be a string, got {value!r:.40}")
    return value


def _number(item: dict[str, Any], field: str) -> float:
    value = item.get(field, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ItemError(f"{field} must be a number, got {value!r:.40}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
