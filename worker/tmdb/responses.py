"""Turns a response of TMDB into a value or an error. Pure.

    200 that is not what was requested                    Unparsable
    429 (or code 25)                                      RateLimited
    401, 403 in TMDB's words (or codes 3, 7, 10, 14)      KeyRejected
    any other 4xx in TMDB's words (or code 34)            Rejected
    anything else: 5xx, redirects, a proxy's 4xx          ApiFailure

The codes are TMDB's own, in an error body that came with HTTP 200. "In TMDB's words" means with an error body
of one of its two forms: `status_code` and `status_message`, or `errors`. Proxies do not write such bodies.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isinf
from typing import Any, NoReturn, TypeGuard

import orjson

from worker.errors import ApiFailure, KeyRejected, RateLimited, Rejected, Unparsable
from worker.keys import LAST_MOVIE
from worker.records import Details, Page, Response

#: Seconds to pause after a 429 without Retry-After (seen in 2023) or with 0 (seen until 2019).
PAUSE_S = 1.0
#: The longest pause, whatever Retry-After says.
LONGEST_PAUSE_S = 300.0

#: The shortest number that may be beyond 64 bits, once its digits are zeros: 2^63 has 19 digits.
LONG_NUMBER = b"0" * 19
_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)

# Tuples, because a body may hold a list as its code, which `in` a set cannot look up.
_KEY_CODES, _LIMIT_CODES, _GONE_CODES = (3, 7, 10, 14), (25,), (34,)
#: 4xx that are temporary by definition: request timeout, misdirected request, too early.
_TEMPORARY = (408, 421, 425)


def pause_for(retry_after_s: float | None) -> float:
    """Seconds to pause the fleet: at least PAUSE_S, at most LONGEST_PAUSE_S."""
    return min(max(retry_after_s or PAUSE_S, PAUSE_S), LONGEST_PAUSE_S)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds (RFC 9110, 10.2.3: seconds or a date); None when absent or neither.

    A date is relative to the response's own Date header, so this machine's clock does not matter.
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
    """Raise the error that a status other than 200 means."""
    status, message = response.status, _message(response.body)
    text = f"HTTP {status}{': ' + message if message else ''}"
    if status == 429:
        raise RateLimited(retry_after(response.headers))
    # Anything else comes from a proxy, a portal or a wrong URL, and says nothing about the page.
    rejected = message and 400 <= status < 500 and status not in _TEMPORARY
    if rejected and status in (401, 403):
        raise _key_rejected(text)
    if rejected:
        raise Rejected(text, response)
    raise ApiFailure(text, response)


def _key_rejected(text: str) -> KeyRejected:
    return KeyRejected(f"TMDB rejects the key ({text}): check TMDB_TOKEN or TMDB_API_KEY")


def _message(body: bytes) -> str:
    """The message of TMDB's error body; "" for any other body."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(error, dict):
        return ""
    errors = error.get("errors")
    if isinstance(errors, list) and all(isinstance(one, str) for one in errors):
        return "; ".join(errors)[:200]
    message = error.get("status_message")
    return message[:200] if isinstance(message, str) and type(error.get("status_code")) is int else ""


def _parse_object(response: Response) -> dict[str, Any]:
    """The JSON object of a 200; raises the error that TMDB may have sent with it."""
    try:
        document = decode(response.body)
    except (ValueError, RecursionError) as error:
        raise Unparsable(f"not JSON: {type(error).__name__}", response) from None
    if not isinstance(document, dict):
        raise Unparsable("not a JSON object", response)
    code = document.get("status_code")
    if code is not None and "results" not in document and "id" not in document:
        _raise_for_code(code, response)
    return document


def decode(body: bytes) -> Any:
    """The JSON value; ValueError or RecursionError for what is not JSON, or holds a number beyond a double.

    orjson takes a third of the time. Python's decoder takes what orjson refuses (lone surrogates, byte order
    marks), and integers beyond 64 bits, which orjson would round.
    """
    if LONG_NUMBER not in body.translate(_AS_ZEROS):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(body)
    return json.loads(body, parse_float=finite, parse_constant=no_constant)


def finite(digits: str) -> float:
    """For JSON decoders: the float; ValueError when it is beyond a double."""
    number = float(digits)
    if isinf(number):  # 1e999 could not be stored and returned unchanged
        raise ValueError(f"{digits:.50} is beyond a double")
    return number


def no_constant(name: str) -> NoReturn:
    """For JSON decoders: ValueError for NaN and infinities, which Python would accept."""
    raise ValueError(f"{name} is not JSON")


def _raise_for_code(code: Any, response: Response) -> NoReturn:
    """Raise the error that TMDB's code in an HTTP 200 means."""
    text = f"HTTP 200 with code {code}: {_message(response.body)}"
    if code in _KEY_CODES:
        raise _key_rejected(text)
    if code in _LIMIT_CODES:
        raise RateLimited(None)
    if code in _GONE_CODES:
        raise Rejected(text, response)
    raise Unparsable(text, response)


def parse_page(number: int) -> Callable[[Response, datetime], Page]:
    """A parser of page `number` of a list; Unparsable for any other body."""

    def parse(response: Response, fetched_at: datetime) -> Page:
        document = _parse_object(response)
        results = document.get("results")
        total_pages, total_results = document.get("total_pages"), document.get("total_results")
        if not isinstance(results, list) or not all(map(_has_id, results)):
            raise Unparsable("results is not a list of objects with ids", response)
        if not _is_count(total_pages) or not _is_count(total_results):
            raise Unparsable("total_pages or total_results is not a count", response)
        if document.get("page") != number:
            raise Unparsable(f"page {document.get('page')!r} instead of {number}", response)
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

    return parse


def parse_any_answer(parse: Callable[[Response, datetime], object]) -> Callable[[Response, datetime], None]:
    """A parser that only checks for an answer: what `parse` accepts, or an empty list.

    What TMDB returns for a page beyond the last is not documented.
    """

    def check(response: Response, fetched_at: datetime) -> None:
        if _parse_object(response).get("results") != []:
            parse(response, fetched_at)

    return check


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _has_id(item: Any) -> bool:
    return isinstance(item, dict) and type(item.get("id")) is int


def parse_changes(number: int) -> Callable[[Response, datetime], Page]:
    """A parser of page `number` of /movie/changes; ids that cannot be requested are left out.

    `adult` is null in up to 11 of 100 rows: too many to mean that the movie is gone. Its details show that.
    """
    parse_whole = parse_page(number)

    def parse(response: Response, fetched_at: datetime) -> Page:
        page = parse_whole(response, fetched_at)
        return replace(page, results=[row for row in page.results if 0 < row["id"] <= LAST_MOVIE])

    return parse


def parse_details(movie_id: int, parts: tuple[str, ...] = ()) -> Callable[[Response, datetime], Details]:
    """A parser of one movie's details, requested with the parts; Unparsable for any other body."""

    def parse(response: Response, fetched_at: datetime) -> Details:
        movie = _parse_object(response)
        if not _has_id(movie) or movie["id"] != movie_id:
            raise Unparsable(f"not movie {movie_id}", response)
        if not isinstance(movie.get("genres"), list) or not all(map(_has_id, movie["genres"])):
            raise Unparsable("genres is not a list of genres with ids", response)
        return Details(movie, fetched_at, response.body, parts)

    return parse


def parse_genre_names(response: Response, _: datetime) -> dict[int, str]:
    """Names by genre id; Unparsable when there are none."""
    try:
        genres = {int(genre["id"]): str(genre["name"]) for genre in _parse_object(response)["genres"]}
    except (TypeError, KeyError, ValueError):
        genres = {}
    if not genres:
        raise Unparsable("not a list of genres", response)
    return genres


def parse_configuration(response: Response, _: datetime) -> None:
    if "images" not in _parse_object(response):
        raise Unparsable("not the configuration", response)
