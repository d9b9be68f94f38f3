"""The client for TMDB: a request needs a token, and its response becomes a value or an error.

Errors of requests, urllib3 and http.client (connection, timeout, broken headers or body) become ApiFailure
here. worker.tmdb.responses interprets complete responses.
"""

import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import urlencode

import requests
import structlog
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError

from worker.errors import ApiFailure, KeyRejected, NotEver, NoToken, RateLimited, Unparsable
from worker.keys import PAGES, Key, PopularKey, another
from worker.limiter.client import Limiter, Token
from worker.monitoring.metrics import count, spent
from worker.monitoring.redaction import Redactor
from worker.records import Page, Response
from worker.tmdb import endpoints
from worker.tmdb.connections import Connections
from worker.tmdb.credentials import Credentials
from worker.tmdb.endpoints import KEY_CHECK, ApiRequest
from worker.tmdb.responses import pause_for, raise_for_status
from worker.tmdb.session import ends_by

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Seconds to connect; Linux repeats a lost packet after 1 s and after 3 s.
CONNECT_S = 3.05
#: Seconds for a whole request, from connecting to the last byte of the response.
WHOLE_S = 12.0
#: In bytes. A page has about 13 kB, the largest known detail document 130 kB.
LARGEST_BODY = 16 * 1024 * 1024

_GZIP = b"\x1f\x8b"


class TmdbClient:
    """TMDB's v3 API behind the fleet's limiter; safe for threads.

    Every method sends one request per token, and waits for tokens until `deadline` (time.monotonic()). All
    raise the errors listed in worker.tmdb.responses, NoToken, Stopping and RedisUnavailable.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- each is a policy of its own
        self,
        session: requests.Session,
        base_url: str,
        limiter: Limiter,
        timeout_s: float,
        credentials: Credentials,
        connections: Connections | None = None,
    ) -> None:
        self._session, self._base_url, self._limiter = session, base_url, limiter
        self._timeout, self._connections = (CONNECT_S, timeout_s), connections
        self._redactor = Redactor(credentials.token, credentials.api_key)
        #: The last request without a usable response, and why: `https://.../3/genre/movie/list: HTTP 502`.
        self.last_failure = ""
        # Prepared once: merging them for each request is a third of the time that requests takes.
        self._headers = CaseInsensitiveDict({name: str(value) for name, value in session.headers.items()})

    def get(self, key: Key, request: Callable[[Any], ApiRequest[T]], deadline: float) -> T:
        """What `request(key)` asks for; Claimed when another thread is fetching it."""
        return self._get(request(key), lambda: request(key.similar()[0]), deadline, claim=key.id)

    def check_answers(self, key: Key, request: Callable[[Any], ApiRequest[Any]], deadline: float) -> None:
        """Send `request(key)` only to see whether TMDB answers; ApiFailure if it does not.

        A page beyond the last and a rejection (no such movie) are answers too.
        """
        with suppress(NotEver):
            self._get(request(key).probe(), lambda: request(key.similar()[0]), deadline)

    def search(self, title: str, deadline: float) -> Page:
        """The first page of the movies with a similar title."""
        other = endpoints.search(title, another(1, PAGES))
        return self._get(endpoints.search(title, 1), lambda: other, deadline)

    def genres(self, deadline: float) -> dict[int, str]:
        """Names by genre id, in English."""
        other = endpoints.popular(PopularKey(another(1, PAGES)))
        return self._get(endpoints.genres(), lambda: other, deadline)

    def check_key(self, deadline: float) -> None:
        """Check the key with one request. If the key works, a stopped limiter opens.

        A rejected key does not stop the fleet: it may be wrong in this process only.
        """
        self._ask(self._limiter.acquire_for_key_check(deadline), KEY_CHECK, stops_fleet=False)

    def _get(
        self,
        request: ApiRequest[T],
        similar: Callable[[], ApiRequest[Any]],
        deadline: float,
        claim: str | None = None,
    ) -> T:
        """Send the request; first `similar()`, if the limiter wants a probe."""
        # The connection first: tokens that waited for connections would be used late, in a burst.
        with ExitStack() as held:
            if self._connections:
                with spent("connection"):
                    held.enter_context(self._connections.hold(deadline))
            while (begun := time.monotonic()) < deadline:
                with spent("token"):
                    token = self._limiter.acquire(deadline, claim)
                log.debug("token acquired", waited_s=round(time.monotonic() - begun, 3), probe=token.probe)
                if token.key:
                    self._check_key_again(token)
                elif token.probe:
                    self._probe(token, similar())
                else:
                    return self._ask(token, request)
        raise NoToken("no time for another request")

    def _check_key_again(self, token: Token) -> None:
        """Check a key that was rejected a minute ago; KeyRejected if it still is."""
        with suppress(ApiFailure, RateLimited, NotEver):  # reported; the next check follows in a minute
            self._ask(token, KEY_CHECK)

    def _probe(self, token: Token, request: ApiRequest[object]) -> None:
        """Find out whether TMDB is back, with a similar request that no cache is likely to answer.

        The outcome is only reported: it does not concern the page to fetch.
        """
        with suppress(ApiFailure, RateLimited, NotEver):  # reported; the limiter decides what follows
            self._ask(token, request.probe())

    def _ask(self, token: Token, request: ApiRequest[T], *, stops_fleet: bool = True) -> T:
        """Send the request, parse the response, report the outcome to the limiter."""
        try:
            answer = request.parse(self._send(request), token.at)
        except RateLimited as error:
            pause_s = pause_for(error.retry_after_s)
            log.warning("refused by TMDB", reason=str(error), pause_s=pause_s)
            self._limiter.report_refusal(token, pause_s)
            raise
        except ApiFailure as error:
            self.last_failure = f"{self._base_url}{request.path}: {error}"
            self._limiter.report_failure(token)
            raise
        except KeyRejected as error:
            if stops_fleet:
                log.error("limiter stopped", reason=str(error))
                self._limiter.stop(str(error))
            raise
        except NotEver as error:
            error.requested_at = token.at
            if token.check:
                self._limiter.report_success(token)
            raise
        if token.check:
            self._limiter.report_success(token)
        return answer

    def _send(self, wanted: ApiRequest[Any]) -> Response:
        """Send one GET; return a response with status 200, raise for others."""
        request = requests.PreparedRequest()
        request.method, request.headers = "GET", self._headers
        request.url = f"{self._base_url}{wanted.path}?{urlencode(wanted.query)}"
        session, status = self._session, "error"
        try:
            # Session.send would read cookies and follow redirects.
            adapter = session.get_adapter(request.url)
            with (
                spent("fetch"),
                ends_by(time.monotonic() + WHOLE_S),
                adapter.send(
                    request,
                    stream=True,
                    timeout=self._timeout,
                    verify=session.verify,  # type: ignore[arg-type] # never None here
                    cert=session.cert,
                    proxies=session.proxies,
                ) as received,
            ):
                response = self._redacted(received, _body(received))
            status = str(response.status)
        except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
            # The text may quote what a server or proxy sent: name only the class.
            raise ApiFailure(type(error).__name__) from None
        finally:
            count("requests", wanted.kind, status)
        if response.status != 200:
            raise_for_status(response)
        return response

    def _redacted(self, received: requests.Response, body: bytes) -> Response:
        """The response, without the key in case TMDB repeats it."""
        redacted = self._redactor.text
        headers = {redacted(name): redacted(value) for name, value in received.headers.items()}
        return Response(received.status_code, self._redactor.raw(body), CaseInsensitiveDict(headers))


def _body(received: requests.Response) -> bytes:
    """The body, limited in size; gzip that no header declares (seen in May 2026) is unpacked."""
    chunks, size = [], 0
    while chunk := received.raw.read1(65536, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_BODY:
            raise ApiFailure(f"body above {LARGEST_BODY} bytes")
    body = b"".join(chunks)
    if body.startswith(_GZIP):
        try:
            return zlib.decompressobj(wbits=31).decompress(body, LARGEST_BODY)
        except zlib.error:
            # Without the body: the part that can be unpacked may hold the key.
            raise Unparsable("broken gzip") from None
    return body
