"""Reads movies from JSON Lines of TMDB list items, plain or gzip; the bytes of every value are kept."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from sandbox.emulator.catalog import Movie

#: A JSON string (kept) or white space between tokens (dropped).
_STRING_OR_SPACE = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
#: Upper bound of made-up revenues, in dollars.
_REVENUE_LIMIT = 400_000_000


class ItemError(ValueError):
    """An invalid list item; the text says what was expected."""


class CatalogError(Exception):
    """An invalid catalogue; the text is one line that begins with the file."""


def read_catalog(path: Path) -> Iterator[Movie]:
    """The movies of a JSON Lines file (`.gz` or plain); blank lines are skipped.

    Raises CatalogError, with file and line, for anything but a list item with a unique id.
    """
    lines_of_ids: dict[int, int] = {}
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _unique(parse_movie(line), number, lines_of_ids)
    except ItemError as error:
        raise CatalogError(f"{path}, line {number}: {error}") from error
    except (EOFError, zlib.error) as error:
        raise CatalogError(f"{path}, line {number + 1}: the gzip stream is damaged ({error})") from error
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror or error}") from error


def _unique(movie: Movie, number: int, lines_of_ids: dict[int, int]) -> Movie:
    if (earlier := lines_of_ids.setdefault(movie.id, number)) != number:
        raise ItemError(f"id {movie.id} is on line {earlier} too")
    return movie


def parse_movie(line: bytes) -> Movie:
    """A movie from a JSON object; white space between tokens is dropped, every token stays as it is.

    Raises ItemError when it is not a JSON object, or when a field that selects or sorts has a wrong type.
    """
    try:
        item = json.loads(line, parse_constant=_reject_constant)
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
    """A movie from a decoded list item and its bytes.

    Only `id` is required; missing fields count as TMDB's empty ones. Raises ItemError for a wrong type.
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
        original_language=_text(item, "original_language"),
        adult=None if item.get("adult", False) is None else item.get("adult") is True,
    )


def unnamed_revenue(movie_id: int) -> int:
    """A scattered but constant revenue for sort_by=revenue: list items have none."""
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


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
