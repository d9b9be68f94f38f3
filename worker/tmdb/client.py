"""The only door to TMDB: a request needs a permit, an answer becomes a value or a kind of trouble.

Errors of requests, urllib3 and http.client (connection, timeout, broken head or body) become ApiTrouble here;
what an answer means that came whole is worker.tmdb.responses' business.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from http.client import HTTPException
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import requests
import structlog
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError

from worker.errors import ApiTrouble, Forbidden, NoPermit, NotEver, RateLimited, Response, Unparsable
from worker.keys import ANY_GENRE, PAGES, USED_MOVIE_IDS, MovieKey, PageKey, Window, another
from worker.limiter.client import Limiter, Permit
from worker.monitoring.metrics import count, spent
from worker.monitoring.redaction import Redactor
from worker.tmdb.connections import Connections
from worker.tmdb.responses import (
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
    sign_of_life,
)
from worker.tmdb.session import ends_by

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
log = structlog.get_logger(__name__)

#: Seconds to connect; the packets of a first try lost cost 1 s and 3 s on Linux.
CONNECT_S = 3.05
#: Seconds from connecting, where that is needed, to the last byte of the answer.
WHOLE_S = 12.0
#: A page is about 13 kB, the largest known detail document 130 kB.
LARGEST_BODY = 16 * 1024 * 1024
#: Stable under edits and new movies in most places; popularity, the default, moves by the minute.
SORT = "original_title.asc"

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
        return self._get(lambda page: _discover(key.cell.page(page)), key.page, deadline, claim=key.id)

    def details(self, key: MovieKey, append: Iterable[str], deadline: float) -> Details:
        """One movie, with the parts appended; Claimed when another slot is fetching the same."""
        parts = ",".join(append)
        return self._get(
            lambda id_: _details(id_, parts), key.movie_id, deadline, USED_MOVIE_IDS, claim=key.id
        )

    def answers(self, key: PageKey | MovieKey, append: Iterable[str], deadline: float) -> None:
        """Ask for a page or movie only to see whether the API answers: if not, ApiTrouble.

        A page beyond the end and a movie that TMDB does not have are answers too.
        """
        parts = ",".join(append)
        with suppress(NotEver):
            if isinstance(key, PageKey):
                self._get(lambda page: _discover(key.cell.page(page)).sign(), key.page, deadline)
            else:
                self._get(lambda id_: _details(id_, parts).sign(), key.movie_id, deadline, USED_MOVIE_IDS)

    def changes(self, day: date, page: int, deadline: float) -> Changes:
        """A page of the ids that changed on the day (UTC)."""
        return self._get(lambda number: _changes(day, number), page, deadline)

    def popular(self, page: int, deadline: float) -> Page:
        """A page of all movies, the most popular first."""
        return self._get(_popular, page, deadline)

    def search(self, words: str, deadline: float) -> Page:
        """The first page of the movies whose title is like the words."""
        return self._get(lambda page: _search(words, page), 1, deadline)

    def genres(self, deadline: float) -> dict[int, str]:
        """Names by genre id, in English."""
        return self._get(_genres, 0, deadline)

    def check_key(self, deadline: float) -> None:
        """One request that tells whether the key works; it goes through a gate that is shut, and opens it.

        A key that only this process has wrong stops nobody else.
        """
        self._ask(self._limiter.preflight(deadline), _KEY_CHECK, stops_fleet=False)

    def _get(
        self,
        question: Callable[[int], _Question[T]],
        number: int,
        deadline: float,
        numbers: Sequence[int] = PAGES,
        claim: str | None = None,
    ) -> T:
        """The answer to `question(number)`; while the gate is closed, another number's is the probe."""
        # The connection first: a token that waited for one would be late, and bunch up with others.
        with ExitStack() as held:
            if self._connections:
                with spent("connection"):
                    held.enter_context(self._connections.one(deadline))
            while (begun := time.monotonic()) < deadline:
                with spent("gate"):
                    permit = self._limiter.acquire(deadline, claim)
                log.debug("token", waited_s=round(time.monotonic() - begun, 3), probe=permit.probe)
                if permit.key:
                    self._check_key_again(permit)
                elif permit.probe:
                    self._probe(permit, question(another(number, numbers)))
                else:
                    return self._ask(permit, question(number))
        raise NoPermit("no time for another request")

    def _check_key_again(self, permit: Permit) -> None:
        """The key was refused a minute ago: a wrong one still is (Forbidden), a spurious 401 is over."""
        with suppress(ApiTrouble, RateLimited, NotEver):  # told; another look follows in a minute
            self._ask(permit, _KEY_CHECK)

    def _probe(self, permit: Permit, question: _Question[object]) -> None:
        """Is the API back? Asked of something like what is wanted, that no cache is likely to hold.

        It fails or succeeds for the fleet alone: nothing that it meets is held against the page at hand.
        """
        with suppress(ApiTrouble, RateLimited, NotEver):  # the gate has been told, and waiting goes on there
            self._ask(permit, question.sign())

    def _ask(self, permit: Permit, question: _Question[T], *, stops_fleet: bool = True) -> T:
        """Send, read, and tell the gate what it needs to know; a refused key stops the fleet if it may."""
        try:
            result = question.read(self._send(question.path, question.query), permit.at)
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
        session, status = self._session, "error"
        try:
            # Not through Session.send, which reads cookies and looks where a redirect leads.
            adapter = session.get_adapter(request.url)
            with (
                spent("fetch"),
                ends_by(time.monotonic() + WHOLE_S),
                adapter.send(
                    request,
                    stream=True,
                    timeout=self._timeout,
                    verify=session.verify,  # type: ignore[arg-type] # None is not among what is set
                    cert=session.cert,
                    proxies=session.proxies,
                ) as answer,
            ):
                response = self._response(answer, _body(answer))
            status = str(response.status)
        except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
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


@dataclass(frozen=True)
class _Question(Generic[T_co]):
    """One GET, and what reads its answer."""

    path: str
    query: Mapping[str, Any]
    read: Callable[[Response, datetime], T_co]

    def sign(self) -> _Question[None]:
        """The same, asked only to see whether there is an answer."""
        return _Question(self.path, self.query, sign_of_life(self.read))


#: A request that any key may make, and that nothing but the key can spoil.
_KEY_CHECK = _Question("/configuration", {}, read_configuration)


def _discover(key: PageKey) -> _Question[Page]:
    window = Window.parse(key.window)
    query: dict[str, Any] = {} if key.genre_id == ANY_GENRE else {"with_genres": key.genre_id}
    query |= {
        "primary_release_date.gte": window.first.isoformat(),
        "primary_release_date.lte": window.last.isoformat(),
        "sort_by": SORT,
        "page": key.page,
    }
    return _Question("/discover/movie", query, page_reader(key.page))


def _details(movie_id: int, parts: str) -> _Question[Details]:
    query = {"append_to_response": parts} if parts else {}
    return _Question(f"/movie/{movie_id}", query, details_reader(movie_id))


def _changes(day: date, page: int) -> _Question[Changes]:
    # The range asked for ends a day later: whether its end counts as a whole day is not documented.
    end = day + timedelta(days=1)
    query = {"start_date": day.isoformat(), "end_date": end.isoformat(), "page": page}
    return _Question("/movie/changes", query, changes_reader(page))


def _popular(page: int) -> _Question[Page]:
    return _Question("/movie/popular", {"page": page}, page_reader(page))


def _search(words: str, page: int) -> _Question[Page]:
    return _Question("/search/movie", {"query": words, "page": page}, page_reader(page))


def _genres(page: int) -> _Question[Any]:
    """The list of genres is 0, and there is no other: a probe, of another number, is a page of movies."""
    return _popular(page) if page else _Question("/genre/movie/list", {}, read_genres)


def _body(answer: requests.Response) -> bytes:
    """The body, bounded in size; unpacked when it is gzip without saying so (seen in May 2026)."""
    chunks, size = [], 0
    while chunk := answer.raw.read1(65536, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_BODY:
            raise ApiTrouble(f"a body above {LARGEST_BODY} bytes")
    body = b"".join(chunks)
    if body.startswith(_GZIP):
        try:
            return zlib.decompressobj(wbits=31).decompress(body, LARGEST_BODY)
        except zlib.error:
            # Without the body: what of it can be unpacked may hold the key.
            raise Unparsable("broken gzip") from None
    return body
