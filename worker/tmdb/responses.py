"""What an answer of TMDB means: a value, or a kind of trouble. Pure.

    200 that is not what was asked for                    Unparsable
    429 (or code 25)                                      RateLimited
    401, 403 in TMDB's words (or codes 3, 7, 10, 14)      KeyRejected
    any other 4xx in TMDB's words (or code 34)            Rejected
    anything else: 5xx, redirects, a 4xx of a middlebox   ApiFailure

Codes in brackets are TMDB's own, in a body that came with HTTP 200. Its words are its error body, in either
form: `status_code` and `status_message`, or `errors`. Whatever stands between us and TMDB speaks otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isinf
from typing import Any, NoReturn, TypeGuard

from worker.errors import ApiFailure, KeyRejected, RateLimited, Rejected, Unparsable
from worker.records import Changes, Details, Page, Response

#: A 429 without Retry-After (seen in 2023) pauses this long; 0 (seen until 2019) too.
PAUSE_S = 1.0
#: Nobody is kept waiting longer by one answer, whatever it says.
LONGEST_PAUSE_S = 300.0

# Tuples: a body may hold a list where the code belongs, which no set can be asked for.
_KEY_CODES, _LIMIT_CODES, _GONE_CODES = (3, 7, 10, 14), (25,), (34,)
#: Of the 4xx, what says by itself that it passes: request timeout, misdirected to this connection, too early.
_PASSING = (408, 421, 425)


def pause_for(retry_after_s: float | None) -> float:
    """Seconds to pause the fleet: at least PAUSE_S, at most LONGEST_PAUSE_S."""
    return min(max(retry_after_s or PAUSE_S, PAUSE_S), LONGEST_PAUSE_S)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds (RFC 9110, 10.2.3: seconds or a date); None when absent or neither.

    A date counts from the answer's own Date, so that no clock of ours matters.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        at = parsedate_to_datetime(value)
        sent = parsedate_to_datetime(headers["Date"]) if "Date" in headers else datetime.now(UTC)
        return max(0.0, (at - sent).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def raise_for_status(response: Response) -> NoReturn:
    """What a status other than 200 means."""
    status, message = response.status, _message(response.body)
    text = f"HTTP {status}{': ' + message if message else ''}"
    if status == 429:
        raise RateLimited(retry_after(response.headers))
    # What is not in TMDB's words is a proxy's, a portal's or a wrong address': it says nothing of the page.
    verdict = message and 400 <= status < 500 and status not in _PASSING
    if verdict and status in (401, 403):
        raise KeyRejected(f"TMDB refuses the key ({text}): check TMDB_TOKEN or TMDB_API_KEY")
    if verdict:
        raise Rejected(text, response)
    raise ApiFailure(text, response)


def _message(body: bytes) -> str:
    """TMDB's words in an error body, "" when it is none of TMDB's."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(error, dict):
        return ""
    words = error.get("errors")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return "; ".join(words)[:200]
    words = error.get("status_message")
    return words[:200] if isinstance(words, str) and type(error.get("status_code")) is int else ""


def _read(response: Response) -> dict[str, Any]:
    """The JSON object of a 200; an error in disguise becomes the error it is."""
    try:
        document = json.loads(response.body, parse_float=_number, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise Unparsable(f"not JSON: {type(error).__name__}", response) from None
    if not isinstance(document, dict):
        raise Unparsable("not a JSON object", response)
    code = document.get("status_code")
    if code is not None and "results" not in document and "id" not in document:
        _disguised(code, response)
    return document


def _number(digits: str) -> float:
    number = float(digits)
    if isinf(number):  # 1e999: neither MongoDB nor JSON could give it back
        raise ValueError(f"{digits:.50} is beyond a double")
    return number


def _no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _disguised(code: Any, response: Response) -> NoReturn:
    text = f"HTTP 200 with code {code}: {_message(response.body)}"
    if code in _KEY_CODES:
        raise KeyRejected(f"TMDB refuses the key ({text}): check TMDB_TOKEN or TMDB_API_KEY")
    if code in _LIMIT_CODES:
        raise RateLimited(None)
    if code in _GONE_CODES:
        raise Rejected(text, response)
    raise Unparsable(text, response)


def parse_page(number: int) -> Callable[[Response, datetime], Page]:
    """Reads page `number` of a list; Unparsable when the body is anything else."""

    def read(response: Response, fetched_at: datetime) -> Page:
        document = _read(response)
        results = document.get("results")
        page, total_pages, total_results = map(document.get, ("page", "total_pages", "total_results"))
        if not isinstance(results, list) or not all(map(_has_id, results)):
            raise Unparsable("results is not a list of movies with ids", response)
        if not (_is_count(total_pages) and _is_count(total_results)):
            raise Unparsable("total_pages or total_results is not a count", response)
        if page != number:
            raise Unparsable(f"page {page!r} where {number} was asked for", response)
        if results and total_pages < number:
            raise Unparsable(f"movies on page {number} of {total_pages}", response)
        return Page(
            number=number,
            results=results,
            total_pages=total_pages,
            total_results=total_results,
            fetched_at=fetched_at,
            sha256=hashlib.sha256(response.body).hexdigest(),
            body=response.body,
        )

    return read


def parse_any_answer(read: Callable[[Response, datetime], object]) -> Callable[[Response, datetime], None]:
    """Reads whether there is an answer: what `read` takes for one, or a list with nothing in it.

    What TMDB says of a page beyond the last is not documented.
    """

    def look(response: Response, fetched_at: datetime) -> None:
        if _read(response).get("results") != []:
            read(response, fetched_at)

    return look


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _has_id(item: Any) -> bool:
    return isinstance(item, dict) and type(item.get("id")) is int


def parse_changes(number: int) -> Callable[[Response, datetime], Changes]:
    """Reads page `number` of /movie/changes: ids alone.

    `adult` is null in up to 11 of 100 rows, too many to mean that the movie is gone: asking for it tells.
    """

    def read(response: Response, fetched_at: datetime) -> Changes:
        document = _read(response)
        results, total_pages = document.get("results"), document.get("total_pages")
        if not isinstance(results, list) or not all(map(_has_id, results)) or not _is_count(total_pages):
            raise Unparsable("not a list of changed ids", response)
        if document.get("page") != number:
            raise Unparsable(f"page {document.get('page')!r} where {number} was asked for", response)
        ids = [row["id"] for row in results if 0 < row["id"] < 2**63]  # no other id can be asked for
        return Changes(ids, total_pages, fetched_at)

    return read


def parse_details(movie_id: int) -> Callable[[Response, datetime], Details]:
    """Reads one movie's details; Unparsable when the body is anything else."""

    def read(response: Response, fetched_at: datetime) -> Details:
        movie = _read(response)
        if not _has_id(movie) or movie["id"] != movie_id:
            raise Unparsable(f"not movie {movie_id}", response)
        if not isinstance(movie.get("genres"), list) or not all(map(_has_id, movie["genres"])):
            raise Unparsable("genres is not a list of genres with ids", response)
        return Details(movie, fetched_at, response.body)

    return read


def parse_genre_names(response: Response, _: datetime) -> dict[int, str]:
    """PageLabels by genre id; Unparsable when there are none."""
    try:
        genres = {int(genre["id"]): str(genre["name"]) for genre in _read(response)["genres"]}
    except (TypeError, KeyError, ValueError):
        genres = {}
    if not genres:
        raise Unparsable("not a list of genres", response)
    return genres


def parse_configuration(response: Response, _: datetime) -> None:
    if "images" not in _read(response):
        raise Unparsable("not the configuration", response)
