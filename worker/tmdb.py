"""The only door to TMDB: a request needs a permit, an answer becomes a value or a kind of trouble.

From foreign errors to ours, in one place:

    connection, timeout, broken body, 5xx, 403 or 3xx of a middlebox   ApiTrouble
    200 that is not what was asked for                                 Unparsable
    429 (or code 25)                                                   RateLimited
    401, 403 of TMDB (or codes 3, 7, 10)                               Forbidden
    any other 4xx (or code 34)                                         Rejected
"""

from __future__ import annotations

import hashlib
import json
import random
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NoReturn, TypeGuard, TypeVar
from urllib.parse import urlencode

import requests
import structlog
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from worker.connections import Connections
from worker.errors import ApiTrouble, Forbidden, NotEver, RateLimited, Rejected, Response, Unparsable
from worker.limiter import Limiter, Permit
from worker.pages import MAX_PAGE, PageKey, Window

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Seconds to connect; the packets of a first try lost cost 1 s and 3 s on Linux.
CONNECT_S = 3.05
#: Seconds from sending a request to the last byte of its answer.
WHOLE_S = 12.0
#: A page is about 13 kB, the largest known detail document 130 kB.
LARGEST_BODY = 16 * 1024 * 1024
#: A 429 without Retry-After (seen in 2023) pauses this long; 0 (seen until 2019) too.
PAUSE_S = 1.0
#: Nobody is kept waiting longer by one answer, whatever it says.
LONGEST_PAUSE_S = 300.0
#: Stable under edits and new movies in most places; popularity, the default, moves by the minute.
SORT = "original_title.asc"

_GZIP = b"\x1f\x8b"
# Tuples: a body may hold a list where the code belongs, which no set can be asked for.
_KEY_CODES, _LIMIT_CODES, _GONE_CODES = (3, 7, 10, 14), (25,), (34,)


@dataclass(frozen=True)
class Page:
    """A page of a list: raw items in TMDB's order, as TMDB sent them."""

    number: int
    results: list[dict[str, Any]]
    total_pages: int
    total_results: int
    #: When it was asked for, on the fleet's clock: the answer is at least as new.
    fetched_at: datetime
    #: Of the body, in hexadecimal.
    sha256: str
    body: bytes


class TmdbClient:
    """TMDB's v3 API behind the fleet's gate; safe for threads.

    Every method sends at most one request a permit, waits for that permit until `deadline`
    (time.monotonic()), and raises what the module's docstring lists, NoPermit, Stopping or BrokerAway.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- what it stands on, each its own policy
        self,
        session: requests.Session,
        base_url: str,
        limiter: Limiter,
        timeout_s: float,
        params: Mapping[str, str],
        connections: Connections | None = None,
    ) -> None:
        self._session, self._base_url, self._limiter = session, base_url, limiter
        self._timeout, self._params = (CONNECT_S, timeout_s), dict(params)
        self._connections = connections
        authorization = str(session.headers.get("Authorization", "")).removeprefix("Bearer ")
        self._secret = (authorization or params.get("api_key") or "[no key]").encode()
        # Prepared once: merging session and request anew is a third of what requests costs.
        self._headers = CaseInsensitiveDict({name: str(value) for name, value in session.headers.items()})

    def discover(self, key: PageKey, deadline: float) -> Page:
        """One page of the cell's movies; Claimed when another slot is fetching the same."""
        window = Window.parse(key.window)
        query = {
            "with_genres": key.genre_id,
            "primary_release_date.gte": window.first.isoformat(),
            "primary_release_date.lte": window.last.isoformat(),
            "sort_by": SORT,
            "page": key.page,
        }
        return self._get("/discover/movie", query, _page_reader(key.page), deadline, claim=key.id)

    def genres(self, deadline: float) -> dict[int, str]:
        """Names by genre id, in English."""
        return self._get("/genre/movie/list", {}, _read_genres, deadline)

    def check_key(self, deadline: float) -> None:
        """One request that tells whether the key works; it goes through a gate that is shut, and opens it.

        A key that only this process has wrong stops nobody else.
        """
        permit = self._limiter.preflight(deadline)
        _read_configuration(self._send("/configuration", {}), permit)
        self._limiter.well(permit)

    def _get(
        self,
        path: str,
        query: Mapping[str, Any],
        read: Callable[[Response, Permit], T],
        deadline: float,
        claim: str | None = None,
    ) -> T:
        # The connection first: a token that waited for one would be late, and bunch up with others.
        with self._connections.one(deadline) if self._connections else nullcontext():
            while True:
                permit = self._limiter.acquire(deadline, claim)
                if not permit.probe:
                    return self._ask(permit, path, query, read)
                self._probe(permit)

    def _probe(self, permit: Permit) -> None:
        """Ask for a page that no cache is likely to hold: is the API back?"""
        number = random.randint(1, MAX_PAGE)  # noqa: S311 -- spreads probes over the caches, no secret
        try:
            self._ask(permit, "/discover/movie", {"page": number}, _page_reader(number))
        except ApiTrouble:
            return  # reported; the gate stays closed, and waiting goes on there

    def _ask(
        self, permit: Permit, path: str, query: Mapping[str, Any], read: Callable[[Response, Permit], T]
    ) -> T:
        """Send, read, and tell the gate what it needs to know."""
        try:
            result = read(self._send(path, query), permit)
        except RateLimited as refusal:
            pause_s = pause_for(refusal.retry_after_s)
            log.warning("refused", reason=str(refusal), pause_s=pause_s)
            self._limiter.throttled(permit, pause_s)
            raise
        except ApiTrouble:
            self._limiter.trouble(permit)
            raise
        except Forbidden as refusal:
            self._limiter.stop(str(refusal))
            raise
        except NotEver:
            if permit.check:
                self._limiter.well(permit)
            raise
        if permit.check:
            self._limiter.well(permit)
        return result

    def _send(self, path: str, query: Mapping[str, Any]) -> Response:
        """The answer to one GET, if it is a 200; raises otherwise."""
        request = requests.PreparedRequest()
        request.method, request.headers = "GET", self._headers
        request.url = f"{self._base_url}{path}?{urlencode({**query, **self._params})}"
        request.hooks = {"response": []}
        until = time.monotonic() + WHOLE_S
        try:
            answer = self._session.send(request, stream=True, timeout=self._timeout, allow_redirects=False)
            with answer:
                body = _body(answer, until)
                if answer.status_code != 200:
                    # Should an error show us our key, it goes no further; a page stays as it was sent.
                    body = body.replace(self._secret, b"[key]")
                response = Response(answer.status_code, body, answer.headers)
        except (requests.RequestException, HTTPError, OSError) as error:
            # The text of these may hold the address, and with it a key: say the kind alone.
            raise ApiTrouble(type(error).__name__) from None
        if response.status != 200:
            _refuse(response)
        return response


def build_session(token: str | None, connections: int, base_url: str) -> requests.Session:
    """A session for many threads: `connections` kept open, no cookies, no retries, proxies read once."""
    session = requests.Session()
    session.proxies = get_environ_proxies(base_url)
    settings = session.merge_environment_settings(base_url, {}, None, None, None)
    session.verify = settings["verify"]
    session.trust_env = False  # what it would look up for each request is known now
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept": "application/json", "User-Agent": "reelhaul"})
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    open_anew(session, connections)
    return session


def open_anew(session: requests.Session, connections: int) -> None:
    """Let go of the open connections: idle ones close now, busy ones after their answer."""
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0, pool_block=True)
    # In one assignment: other threads are sending through the old one at this moment.
    session.adapters = OrderedDict({"https://": adapter, "http://": adapter})


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


def _body(answer: requests.Response, until: float) -> bytes:
    """The body, bounded in size and time; unpacked when it is gzip without saying so (seen in May 2026)."""
    chunks, size = [], 0
    while chunk := answer.raw.read1(65536, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_BODY:
            raise ApiTrouble(f"a body above {LARGEST_BODY} bytes")
        if time.monotonic() > until:
            raise ApiTrouble(f"no whole answer within {WHOLE_S:g} s")
    body = b"".join(chunks)
    if body.startswith(_GZIP):
        try:
            return zlib.decompressobj(wbits=31).decompress(body, LARGEST_BODY)
        except zlib.error:
            raise Unparsable("broken gzip", Response(answer.status_code, body, answer.headers)) from None
    return body


def _refuse(response: Response) -> NoReturn:
    """What a status other than 200 means."""
    status, message = response.status, _message(response.body)
    text = f"HTTP {status}{': ' + message if message else ''}"
    if status == 429:
        raise RateLimited(retry_after(response.headers))
    if status == 401 or (status == 403 and message):
        raise Forbidden(f"TMDB refuses the key ({text}): check TMDB_TOKEN or TMDB_API_KEY")
    if 400 <= status < 500 and status not in (403, 408, 425):
        raise Rejected(text, response)
    raise ApiTrouble(text, response)


def _message(body: bytes) -> str:
    """TMDB's words in an error body, "" when it is none of TMDB's."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(error, dict):
        return ""
    if isinstance(error.get("errors"), list):
        return "; ".join(map(str, error["errors"]))[:200]
    return str(error.get("status_message", ""))[:200]


def _read(response: Response) -> dict[str, Any]:
    """The JSON object of a 200; an error in disguise becomes the error it is."""
    try:
        document = json.loads(response.body, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise Unparsable(f"not JSON: {type(error).__name__}", response) from None
    if not isinstance(document, dict):
        raise Unparsable("not a JSON object", response)
    code = document.get("status_code")
    if code is not None and "results" not in document and "id" not in document:
        _disguised(code, response)
    return document


def _no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _disguised(code: Any, response: Response) -> NoReturn:
    text = f"HTTP 200 with code {code}: {_message(response.body)}"
    if code in _KEY_CODES:
        raise Forbidden(f"TMDB refuses the key ({text}): check TMDB_TOKEN or TMDB_API_KEY")
    if code in _LIMIT_CODES:
        raise RateLimited(None)
    if code in _GONE_CODES:
        raise Rejected(text, response)
    raise Unparsable(text, response)


def _page_reader(number: int) -> Callable[[Response, Permit], Page]:
    """Reads page `number` of a list; Unparsable when the body is anything else."""

    def read(response: Response, permit: Permit) -> Page:
        document = _read(response)
        results = document.get("results")
        page, total_pages, total_results = map(document.get, ("page", "total_pages", "total_results"))
        if not isinstance(results, list) or not all(map(_is_movie, results)):
            raise Unparsable("results is not a list of movies with ids", response)
        if not (_is_count(total_pages) and _is_count(total_results)):
            raise Unparsable("total_pages or total_results is not a count", response)
        if page != number:
            raise Unparsable(f"page {page!r} where {number} was asked for", response)
        return Page(
            number=number,
            results=results,
            total_pages=total_pages,
            total_results=total_results,
            fetched_at=datetime.fromtimestamp(permit.at_us // 1000 / 1000, UTC),
            sha256=hashlib.sha256(response.body).hexdigest(),
            body=response.body,
        )

    return read


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _is_movie(item: Any) -> bool:
    return isinstance(item, dict) and type(item.get("id")) is int


def _read_genres(response: Response, _: Permit) -> dict[int, str]:
    try:
        return {int(genre["id"]): str(genre["name"]) for genre in _read(response)["genres"]}
    except (TypeError, KeyError, ValueError):
        raise Unparsable("not a list of genres", response) from None


def _read_configuration(response: Response, _: Permit) -> None:
    if "images" not in _read(response):
        raise Unparsable("not the configuration", response)
