"""The only door to TMDB: a request needs a permit, an answer becomes a value or a kind of trouble.

Errors of requests and urllib3 (connection, timeout, broken body) become ApiTrouble here; what an answer
means that came whole is worker.answers' business.
"""

from __future__ import annotations

import random
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import date, datetime, timedelta
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import urlencode

import requests
import structlog
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from worker.answers import (
    Changes,
    Details,
    Page,
    changes_reader,
    details_reader,
    page_reader,
    pause_for,
    read_configuration,
    read_genres,
    refuse,
)
from worker.connections import Connections
from worker.errors import ApiTrouble, Forbidden, NotEver, RateLimited, Response, Unparsable
from worker.limiter import Limiter, Permit
from worker.metrics import count, spent
from worker.pages import ANY_GENRE, MAX_PAGE, MovieKey, PageKey, Window
from worker.redaction import Redactor

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Seconds to connect; the packets of a first try lost cost 1 s and 3 s on Linux.
CONNECT_S = 3.05
#: Seconds from sending a request to the last byte of its answer.
WHOLE_S = 12.0
#: A page is about 13 kB, the largest known detail document 130 kB.
LARGEST_BODY = 16 * 1024 * 1024
#: Stable under edits and new movies in most places; popularity, the default, moves by the minute.
SORT = "original_title.asc"

#: A request that any key may make, and that nothing but the key can spoil: path, query, reader.
_KEY_CHECK = ("/configuration", dict[str, Any](), read_configuration)

_GZIP = b"\x1f\x8b"


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
        self._redactor = Redactor(authorization, params.get("api_key", ""))
        # Prepared once: merging session and request anew is a third of what requests costs.
        self._headers = CaseInsensitiveDict({name: str(value) for name, value in session.headers.items()})

    def discover(self, key: PageKey, deadline: float) -> Page:
        """One page of the cell's movies; Claimed when another slot is fetching the same."""
        window = Window.parse(key.window)
        query: dict[str, Any] = {} if key.genre_id == ANY_GENRE else {"with_genres": key.genre_id}
        query |= {
            "primary_release_date.gte": window.first.isoformat(),
            "primary_release_date.lte": window.last.isoformat(),
            "sort_by": SORT,
            "page": key.page,
        }
        return self._get("/discover/movie", query, page_reader(key.page), deadline, claim=key.id)

    def details(self, key: MovieKey, append: Iterable[str], deadline: float) -> Details:
        """One movie, with the parts appended; Claimed when another slot is fetching the same."""
        parts = ",".join(append)
        query = {"append_to_response": parts} if parts else {}
        return self._get(
            f"/movie/{key.movie_id}", query, details_reader(key.movie_id), deadline, claim=key.id
        )

    def changes(self, day: date, page: int, deadline: float) -> Changes:
        """A page of the ids that changed on the day (UTC).

        The range asked for ends a day later: whether its end counts as a whole day is not documented.
        """
        query = {
            "start_date": day.isoformat(),
            "end_date": (day + timedelta(days=1)).isoformat(),
            "page": page,
        }
        return self._get("/movie/changes", query, changes_reader(page), deadline)

    def popular(self, page: int, deadline: float) -> Page:
        """A page of all movies, the most popular first."""
        return self._get("/movie/popular", {"page": page}, page_reader(page), deadline)

    def search(self, words: str, deadline: float) -> Page:
        """The first page of the movies whose title is like the words."""
        return self._get("/search/movie", {"query": words, "page": 1}, page_reader(1), deadline)

    def genres(self, deadline: float) -> dict[int, str]:
        """Names by genre id, in English."""
        return self._get("/genre/movie/list", {}, read_genres, deadline)

    def check_key(self, deadline: float) -> None:
        """One request that tells whether the key works; it goes through a gate that is shut, and opens it.

        A key that only this process has wrong stops nobody else.
        """
        self._ask(self._limiter.preflight(deadline), *_KEY_CHECK, stops_fleet=False)

    def _get(
        self,
        path: str,
        query: Mapping[str, Any],
        read: Callable[[Response, datetime], T],
        deadline: float,
        claim: str | None = None,
    ) -> T:
        # The connection first: a token that waited for one would be late, and bunch up with others.
        with ExitStack() as held:
            if self._connections:
                with spent("connection"):
                    held.enter_context(self._connections.one(deadline))
            while True:
                begun = time.monotonic()
                with spent("gate"):
                    permit = self._limiter.acquire(deadline, claim)
                log.debug("token", waited_s=round(time.monotonic() - begun, 3), probe=permit.probe)
                if permit.key:
                    self._check_key_again(permit)
                elif permit.probe:
                    self._probe(permit)
                else:
                    return self._ask(permit, path, query, read)

    def _check_key_again(self, permit: Permit) -> None:
        """The key was refused a minute ago: a wrong one still is (Forbidden), a spurious 401 is over."""
        try:
            self._ask(permit, *_KEY_CHECK)
        except (ApiTrouble, RateLimited):
            return  # reported; the limiter stays stopped, and another look follows in a minute

    def _probe(self, permit: Permit) -> None:
        """Ask for a page that no cache is likely to hold: is the API back?"""
        number = random.randint(1, MAX_PAGE)  # noqa: S311 -- spreads probes over the caches, no secret
        try:
            self._ask(permit, "/discover/movie", {"page": number}, page_reader(number))
        except ApiTrouble:
            return  # reported; the gate stays closed, and waiting goes on there

    def _ask(
        self,
        permit: Permit,
        path: str,
        query: Mapping[str, Any],
        read: Callable[[Response, datetime], T],
        *,
        stops_fleet: bool = True,
    ) -> T:
        """Send, read, and tell the gate what it needs to know; a refused key stops the fleet if it may."""
        try:
            result = read(self._send(path, query), permit.at)
        except RateLimited as refusal:
            pause_s = pause_for(refusal.retry_after_s)
            log.warning("refused", reason=str(refusal), pause_s=pause_s)
            self._limiter.throttled(permit, pause_s)
            raise
        except ApiTrouble:
            self._limiter.trouble(permit)
            raise
        except Forbidden as refusal:
            if stops_fleet:
                self._limiter.stop(str(refusal))
            raise
        except NotEver as refusal:
            refusal.asked_at = permit.at
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
        until, status = time.monotonic() + WHOLE_S, "error"
        try:
            with (
                spent("fetch"),
                self._session.send(
                    request, stream=True, timeout=self._timeout, allow_redirects=False
                ) as answer,
            ):
                response = self._response(answer, _body(answer, until))
            status = str(response.status)
        except (requests.RequestException, HTTPError, OSError) as error:
            # The text of these may hold the address, and with it a key: say the kind alone.
            raise ApiTrouble(type(error).__name__) from None
        finally:
            count("requests", status)
        if response.status != 200:
            refuse(response)
        return response

    def _response(self, answer: requests.Response, body: bytes) -> Response:
        """Should the API show us our key, in a header or in the body, it goes no further."""
        redacted = self._redactor.text
        headers = {redacted(name): redacted(value) for name, value in answer.headers.items()}
        return Response(answer.status_code, self._redactor.raw(body), CaseInsensitiveDict(headers))


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
            # Without the body: what of it can be unpacked may hold the key.
            raise Unparsable("broken gzip") from None
    return body
