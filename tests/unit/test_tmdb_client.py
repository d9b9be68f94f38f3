"""Each response becomes a value or an error, and its outcome is reported to the limiter."""

import gzip
import io
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from worker.errors import (
    ApiFailure,
    KeyRejected,
    NotEver,
    NotNow,
    NoToken,
    RateLimited,
    ReelhaulError,
    Rejected,
    Unparsable,
)
from worker.keys import MAX_PAGE, ChangesKey, MovieKey, PageKey, PopularKey, TotalsKey
from worker.limiter.client import Limiter, Token
from worker.tmdb import endpoints
from worker.tmdb.client import TmdbClient
from worker.tmdb.credentials import NO_CREDENTIALS
from worker.tmdb.endpoints import discover
from worker.tmdb.responses import LONGEST_PAUSE_S, PAUSE_S, decode, pause_for, retry_after

KEY = PageKey(18, "1999", 3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
#: Microseconds since 1970, and the same time as the client gives it.
AT_US, AT = 1_767_225_600_123_456, datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC)
SENT = "Thu, 01 Jan 2026 00:00:00 GMT"

#: Values that make the body of page 3 invalid, by field.
INVALID: dict[str, list[Any]] = {
    "results": [None, {}, "", "text", 7, [7], [None], [[]], [{}], ["a"]]
    + [[{"id": id_}] for id_ in (None, "603", 603.0, True, [603])],
    "page": [None, 2, 4, "3", [3], {}],
    "total_pages": [None, -1, "7", 7.0, True, []],
    "total_results": [None, -1, "140", 140.0, False],
}

HTML = b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"


#: Error bodies that are not in TMDB's words.
NOT_TMDB: list[Any] = [
    b"", b"[]", {"message": "Forbidden"}, {"status_message": "no code"}, {"status_code": 34}, {"errors": []},
    {"errors": [{"message": "x"}]}, {"status_code": "34", "status_message": "x"}, {"errors": [None, "x"]},
    {"status_code": True, "status_message": "x"}, {"status_code": 34, "status_message": ["x"]},
]  # fmt: skip


class OpenLimiter(Limiter):
    """Grants every token at once and records the reports; reservation is tested with Redis.

    The first `probes` tokens are for probes, or for key checks.
    """

    def __init__(self, *, check: bool = False, probes: int = 0, key: bool = False) -> None:
        self.reports: list[tuple[str, Any]] = []
        self._check, self._probes, self._key_checks = check, probes, key

    def acquire(self, deadline: float, claim: str | None = None) -> Token:  # noqa: ARG002 -- as inherited
        self._probes -= 1
        special = self._probes >= 0
        return Token(
            1, AT_US, special and not self._key_checks, special and self._key_checks, self._check or special
        )

    def report_refusal(self, token: Token, pause_s: float) -> None:  # noqa: ARG002 -- as inherited
        self.reports.append(("refusal", pause_s))

    def report_failure(self, token: Token) -> None:  # noqa: ARG002 -- as inherited
        self.reports.append(("failure", None))

    def report_success(self, token: Token) -> None:  # noqa: ARG002 -- as inherited
        self.reports.append(("success", None))

    def stop(self, reason: str) -> None:
        self.reports.append(("stop", reason))


class CannedAdapter(BaseAdapter):
    """Sends the same response to every request, and records the URLs."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.urls: list[str] = []
        self._status, self._body, self._headers = status, body, dict(headers)

    def answer(self, status: int, body: bytes) -> None:
        """Set the response from now on."""
        self._status, self._body = status, body

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self.urls.append(str(request.url))
        answer = requests.Response()
        answer.status_code = self._status
        answer.headers.update(self._headers)
        answer.raw = HTTPResponse(
            io.BytesIO(self._body), status=self._status, headers=self._headers, preload_content=False
        )
        return answer

    def close(self) -> None:
        pass


def client(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, *, check: bool = False
) -> tuple[TmdbClient, OpenLimiter]:
    session, limiter = requests.Session(), OpenLimiter(check=check)
    session.mount("https://", CannedAdapter(status, body, headers or {}))
    return TmdbClient(session, "https://tmdb.test/3", limiter, 1.0, NO_CREDENTIALS), limiter


def error_of(
    status: int, body: bytes | dict[str, Any] = b"", headers: Mapping[str, str] | None = None
) -> tuple[ReelhaulError, list[tuple[str, Any]]]:
    """The error that discover raises for this response, and the reports to the limiter."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    tmdb, limiter = client(status, text, headers)
    with pytest.raises(ReelhaulError) as raised:
        tmdb.get(KEY, discover, time.monotonic() + 5)
    assert "\n" not in str(raised.value)
    return raised.value, limiter.reports


def error_body(code: int, message: str = "Words.") -> dict[str, Any]:
    return {"success": False, "status_code": code, "status_message": message}


def page_body(**changes: Any) -> dict[str, Any]:
    return {"page": 3, "results": [{"id": 603}], "total_pages": 7, "total_results": 140, **changes}


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (400, error_body(22), Rejected),
            (401, error_body(7), KeyRejected),
            (403, error_body(10), KeyRejected),
            (404, error_body(34), Rejected),
            (405, error_body(42), Rejected),
            (422, error_body(20), Rejected),
            (422, {"errors": ["page must be less than or equal to 500"]}, Rejected),
            *((status, error_body(11), ApiFailure) for status in (408, 421, 425)),
            # Not in TMDB's words: not a rejection.
            *((status, HTML, ApiFailure) for status in range(400, 500) if status != 429),
            *((status, body, ApiFailure) for status in (400, 401, 403, 404, 410, 422) for body in NOT_TMDB),
            (429, error_body(25), RateLimited),
            (429, HTML, RateLimited),
            (500, error_body(11), ApiFailure),
            (502, HTML, ApiFailure),
            (503, error_body(46), ApiFailure),
            (504, b"", ApiFailure),
            (599, b"", ApiFailure),
            *((status, body, ApiFailure) for status in range(201, 400) for body in (b"", error_body(34))),
        ],
    )
    def test_each_status_becomes_its_error(
        self, status: int, body: bytes | dict[str, Any], kind: type[ReelhaulError]
    ) -> None:
        error, reports = error_of(status, body)
        assert type(error) is kind
        expected = {RateLimited: ["refusal"], ApiFailure: ["failure"], KeyRejected: ["stop"], Rejected: []}
        assert [name for name, _ in reports] == expected[kind]

    @pytest.mark.parametrize("body", [error_body(34, "Gone."), {"errors": ["Gone.", "Really."]}])
    def test_a_rejection_keeps_tmdbs_words_and_the_response(self, body: dict[str, Any]) -> None:
        error, _ = error_of(404, body)
        assert isinstance(error, NotEver)
        assert error.response is not None
        assert "HTTP 404: Gone." in str(error)
        assert (error.response.status, json.loads(error.response.body)) == (404, body)

    def test_a_rejected_key_stops_the_fleet_and_names_the_settings(self) -> None:
        error, reports = error_of(401, error_body(7, "Invalid API key."))
        assert reports == [("stop", str(error))]
        assert "Invalid API key." in str(error)
        assert "check TMDB_TOKEN or TMDB_API_KEY" in str(error)

    @pytest.mark.parametrize(
        "body",
        [
            *(b"", b"{", b"[]", b"null", b"7", b'"words"', b"\xff\xfe", b"[" * 100_000, b'{"errors": 1}'),
            *(b'{"status_message": null}', b'{"status_message": ["a"]}', b'{"errors": [null, {}, []]}'),
            b'{"status_message": "' + b"x" * 100_000 + b'"}',
        ],
    )
    @pytest.mark.parametrize("status", [400, 403, 429, 503])
    def test_any_error_body_becomes_an_error(self, status: int, body: bytes) -> None:
        error, _ = error_of(status, body)
        assert isinstance(error, NotNow | NotEver | KeyRejected)
        assert len(str(error)) < 400


class TestErrorsInA200:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            *((code, KeyRejected) for code in (3, 7, 10, 14)),
            (25, RateLimited),
            (34, Rejected),
            *((code, Unparsable) for code in (9, 11, 24, 43, 46, 999)),
        ],
    )
    def test_an_error_in_a_200_is_that_error(self, code: int, kind: type[ReelhaulError]) -> None:
        error, _ = error_of(200, error_body(code))
        assert type(error) is kind

    @pytest.mark.parametrize("code", ["7", [7], {"7": 7}, 7.5, True, None, ""])
    def test_an_invalid_code_is_unparsable(self, code: Any) -> None:
        error, reports = error_of(200, {"status_code": code})
        assert type(error) is Unparsable
        assert reports == [("failure", None)]

    def test_a_page_with_a_code_is_a_page(self) -> None:
        tmdb, limiter = client(200, json.dumps(page_body(status_code=7)).encode())
        assert tmdb.get(KEY, discover, time.monotonic() + 5).total_pages == 7
        assert limiter.reports == []


class TestDecode:
    """orjson's values are those of Python's decoder."""

    @pytest.mark.parametrize(
        "body",
        [
            b'{"id":9223372036854775808,"a":-9223372036854775809}',
            b"[123456789012345678901234567890, 18446744073709551615, 18446744073709551616]",
            b"[0.1234567890123456789012345, 1E5, -0.0, 1e-400]",
            b'["\\ud800", "\\udc00\\ud800"]',
            b'["\xed\xa0\x80"]',
            b'\xef\xbb\xbf{"id":1}',
            '{"é":1}'.encode("utf-16"),
            b'{"a":1,"a":2}',
            b"[" * 300 + b"]" * 300,
        ],
    )
    def test_any_json_has_the_same_value(self, body: bytes) -> None:
        assert repr(decode(body)) == repr(json.loads(body))

    @pytest.mark.parametrize("body", [b"NaN", b"[-Infinity]", b"1e999", b"[-1e400]", b"[1,]", b"", b"\xff"])
    def test_what_is_not_json_or_beyond_a_double_is_refused(self, body: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 -- whatever it says
            decode(body)

    @given(JSON)
    def test_any_value_is_read_as_it_was_written(self, value: Any) -> None:
        assert repr(decode(json.dumps(value).encode())) == repr(value)


class TestPage:
    def test_a_page_is_parsed(self) -> None:
        movie = {"id": 603, "title": "The Matrix", "softcore": False, "new": {"deep": [1, None, 2.50]}}
        body = json.dumps(page_body(results=[movie, movie], surplus=1)).encode()
        tmdb, limiter = client(200, body)
        page = tmdb.get(KEY, discover, time.monotonic() + 5)
        assert (page.number, page.total_pages, page.total_results) == (3, 7, 140)
        assert page.results == [movie, movie]
        assert page.fetched_at == AT
        assert page.body == body
        assert limiter.reports == []

    @pytest.mark.parametrize(("total_pages", "total_results"), [(0, 0), (1, 0), (58_326, 1_166_520)])
    def test_an_empty_page_with_any_totals_is_a_page(self, total_pages: int, total_results: int) -> None:
        body = page_body(results=[], total_pages=total_pages, total_results=total_results)
        tmdb, _ = client(200, json.dumps(body).encode())
        page = tmdb.get(KEY, discover, time.monotonic() + 5)
        assert (page.results, page.total_pages) == ([], total_pages)

    def test_undeclared_gzip_is_unpacked(self) -> None:
        body = json.dumps(page_body()).encode()
        tmdb, _ = client(200, gzip.compress(body))
        assert tmdb.get(KEY, discover, time.monotonic() + 5).body == body

    @pytest.mark.parametrize(
        "body",
        [
            *(b"", b"{", b"null", b"[]", b"7", HTML, b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000),
            *(b'{"page":3,"results":[],"total_pages":NaN,"total_results":1}', b'{"a":Infinity}'),
            *(
                json.dumps(page_body()).encode()[:-1] + b', "x": %s}' % much
                for much in (b"1e999", b"[-1e400]")
            ),
            gzip.compress(b"no json", mtime=0),
            gzip.compress(json.dumps(page_body()).encode(), mtime=0)[:-20],
            b"\x1f\x8bno gzip",
        ],
    )
    def test_malformed_json_is_unparsable(self, body: bytes) -> None:
        error, reports = error_of(200, body)
        assert type(error) is Unparsable
        assert reports == [("failure", None)]

    @pytest.mark.parametrize(
        "changes",
        [{name: value} for name, values in INVALID.items() for value in values],
    )
    def test_a_wrong_envelope_is_unparsable(self, changes: dict[str, Any]) -> None:
        error, _ = error_of(200, page_body(**changes))
        assert type(error) is Unparsable

    @given(st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["page", "results", "total_pages", "total_results", "status_code", "id"]), inner
        ),
        max_leaves=10,
    ))  # fmt: skip
    def test_any_json_becomes_a_page_or_an_error(self, document: Any) -> None:
        tmdb, _ = client(200, json.dumps(document).encode())
        try:
            page = tmdb.get(KEY, discover, time.monotonic() + 5)
        except ReelhaulError:
            return
        assert page.results == document["results"]

    @pytest.mark.parametrize("body", [b"{}", b'{"genres": null}', b'{"genres": 7}', b'{"genres": [7]}', HTML])
    def test_malformed_genres_are_unparsable(self, body: bytes) -> None:
        tmdb, _ = client(200, body)
        with pytest.raises(Unparsable):
            tmdb.genres(time.monotonic() + 5)

    def test_genres(self) -> None:
        tmdb, _ = client(200, b'{"genres":[{"id":18,"name":"Drama"},{"id":35,"name":"Comedy"}]}')
        assert tmdb.genres(time.monotonic() + 5) == {18: "Drama", 35: "Comedy"}


class TestReports:
    @pytest.mark.parametrize(
        ("status", "body", "reports"),
        [
            (200, page_body(), ["success"]),
            (404, error_body(34), ["success"]),
            (503, error_body(9), ["failure"]),
            (429, error_body(25), ["refusal"]),
        ],
    )
    def test_a_token_with_check_is_reported(
        self, status: int, body: dict[str, Any], reports: list[str]
    ) -> None:
        tmdb, limiter = client(status, json.dumps(body).encode(), check=True)
        try:
            tmdb.get(KEY, discover, time.monotonic() + 5)
        except ReelhaulError as error:
            assert status != 200, error  # noqa: PT017 -- the page alone may not raise
        assert [name for name, _ in limiter.reports] == reports


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0.0),
            ("1", 1.0),
            (" 7 ", 7.0),
            ("120", 120.0),
            ("Thu, 01 Jan 2026 00:00:09 GMT", 9.0),
            ("Thu, 01 Jan 2026 01:00:00 +0100", 0.0),
            ("Wed, 31 Dec 2025 23:00:00 GMT", 0.0),
            ("Thursday, 01-Jan-26 00:00:05 GMT", 5.0),
            *((text, None) for text in (
                "", "soon", "-1", "1.5", "1e3", "٣", "0x10", "1, 2", "nan", "inf",
                "Thu, 99 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 +99999999999999999999",
                "Thu, 01 Jan 99999999999999999999 00:00:00 GMT",
            )),
        ],
    )  # fmt: skip
    def test_seconds_or_a_date_relative_to_the_date_header(self, value: str, seconds: float | None) -> None:
        assert retry_after({"Retry-After": value, "Date": SENT}) == seconds

    def test_absent(self) -> None:
        assert retry_after({"Date": SENT}) is None
        assert retry_after({}) is None

    def test_absurd_numbers_are_just_long(self) -> None:
        waited = retry_after({"Retry-After": "9" * 5000})
        assert waited is not None
        assert waited > LONGEST_PAUSE_S

    @pytest.mark.parametrize("date", ["", "yesterday", "Thu, 01 Jan 2026 00:00:00"])
    def test_a_date_without_a_usable_date_header_is_seconds_or_none(self, date: str) -> None:
        waited = retry_after({"Retry-After": "Thu, 01 Jan 2026 00:00:09 GMT", "Date": date})
        assert waited is None or waited >= 0

    @given(st.text(), st.text())
    def test_any_text_is_seconds_or_none(self, value: str, date: str) -> None:
        waited = retry_after({"Retry-After": value, "Date": date})
        assert waited is None or waited >= 0

    @pytest.mark.parametrize(
        ("retry_after_s", "paused_s"),
        [
            (None, PAUSE_S),
            (0.0, PAUSE_S),
            (0.2, PAUSE_S),
            (3.0, 3.0),
            (LONGEST_PAUSE_S, LONGEST_PAUSE_S),
            (1e9, LONGEST_PAUSE_S),
        ],
    )
    def test_the_pause_is_bounded(self, retry_after_s: float | None, paused_s: float) -> None:
        assert pause_for(retry_after_s) == paused_s

    @pytest.mark.parametrize(
        ("headers", "retry_after_s", "paused_s"),
        [
            ({}, None, PAUSE_S),
            ({"Retry-After": "0"}, 0.0, PAUSE_S),
            ({"retry-after": "5"}, 5.0, 5.0),
            ({"Retry-After": "Thu, 01 Jan 2026 00:00:07 GMT", "Date": SENT}, 7.0, 7.0),
            ({"Retry-After": "nonsense"}, None, PAUSE_S),
            ({"Retry-After": "99999999"}, 99_999_999.0, LONGEST_PAUSE_S),
        ],
    )
    def test_the_fleet_pauses_for_retry_after(
        self, headers: dict[str, str], retry_after_s: float | None, paused_s: float
    ) -> None:
        error, reports = error_of(429, error_body(25), headers)
        assert isinstance(error, RateLimited)
        assert error.retry_after_s == retry_after_s
        assert reports == [("refusal", paused_s)]


class TestProbe:
    """While the limiter is closed, a similar request is sent, and its outcome is not the page's."""

    def probing(
        self, *answers: tuple[int, Any], key: bool = False
    ) -> tuple[TmdbClient, OpenLimiter, CannedAdapter]:
        """A client whose limiter wants a probe for each answer but the last."""
        adapter, limiter = CannedAdapter(0, b"", {}), OpenLimiter(probes=len(answers) - 1, key=key)
        rest = iter(answers)

        def send(request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
            status, body = next(rest)
            adapter.answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())
            return CannedAdapter.send(adapter, request)

        session = requests.Session()
        adapter.send = send  # type: ignore[method-assign]
        session.mount("https://", adapter)
        return TmdbClient(session, "https://tmdb.test/3", limiter, 1.0, NO_CREDENTIALS), limiter, adapter

    @pytest.mark.parametrize(
        ("status", "body", "reports"),
        [
            (503, HTML, "failure"),
            (302, b"", "failure"),
            (200, b"nonsense", "failure"),
            (400, HTML, "failure"),
            (429, error_body(25), "refusal"),
            (400, error_body(22), "success"),
            (404, error_body(34), "success"),
            (422, {"errors": ["page must be less than or equal to 500"]}, "success"),
            # A page beyond the last; TMDB's response is not documented.
            (200, page_body(results=[], page=1, total_pages=0), "success"),
        ],
    )
    def test_its_outcome_is_only_reported_to_the_limiter(self, status: int, body: Any, reports: str) -> None:
        tmdb, limiter, adapter = self.probing((status, body), (200, page_body()))
        assert tmdb.get(KEY, discover, time.monotonic() + 5).number == 3
        assert [name for name, _ in limiter.reports] == [reports]
        assert len(adapter.urls) == 2

    def test_it_requests_another_page_of_the_same_query(self) -> None:
        tmdb, _, adapter = self.probing(*[(503, b"")] * 20, (200, page_body()))
        tmdb.get(KEY, discover, time.monotonic() + 5)
        *probes, page = (dict(parse_qsl(urlsplit(url).query)) for url in adapter.urls)
        assert page.pop("page") == "3"
        numbers = [int(probe.pop("page")) for probe in probes]
        assert probes == [page] * 20
        assert page["with_genres"] == "18"
        assert 3 not in numbers
        assert len(set(numbers)) > 10
        assert all(1 <= number <= MAX_PAGE for number in numbers)

    @pytest.mark.parametrize(
        ("ask", "path"),
        [
            (
                lambda client, until: client.get(ChangesKey("2026-01-01", 1), endpoints.changes, until),
                "/3/movie/changes",
            ),
            (lambda client, until: client.get(PopularKey(1), endpoints.popular, until), "/3/movie/popular"),
            (
                lambda client, until: client.get(TotalsKey(18, "1999"), endpoints.totals, until),
                "/3/discover/movie",
            ),
            (lambda client, until: client.search("moon", until), "/3/search/movie"),
            (lambda client, until: client.genres(until), "/3/movie/popular"),
        ],
    )
    def test_other_lists_are_probed_by_another_page(
        self, ask: Callable[[TmdbClient, float], Any], path: str
    ) -> None:
        body = {**page_body(page=1), "genres": [{"id": 18, "name": "Drama"}]}
        tmdb, _, adapter = self.probing((404, error_body(34)), (200, body))
        ask(tmdb, time.monotonic() + 5)
        assert urlsplit(adapter.urls[0]).path == path
        assert adapter.urls[0] != adapter.urls[1]

    def test_a_movie_is_probed_by_another_movie_with_the_same_parts(self) -> None:
        movie = {"id": 603, "genres": []}
        tmdb, limiter, adapter = self.probing((404, error_body(34)), (200, movie))
        with_credits = partial(endpoints.details, append=["credits"])
        assert tmdb.get(MovieKey(603), with_credits, time.monotonic() + 5).movie == movie
        probe, request = map(urlsplit, adapter.urls)
        assert (probe.path == request.path, probe.query) == (False, request.query)
        assert [name for name, _ in limiter.reports] == ["success"]

    @pytest.mark.parametrize(
        "answer", [(404, error_body(34)), (404, HTML), (429, error_body(25)), (302, b"")]
    )
    def test_a_failed_key_check_does_not_fail_the_page(self, answer: tuple[int, Any]) -> None:
        tmdb, _, adapter = self.probing(answer, (200, page_body()), key=True)
        assert tmdb.get(KEY, discover, time.monotonic() + 5).number == 3
        assert "/configuration" in adapter.urls[0]

    def test_a_probe_whose_key_is_rejected_stops_the_fleet(self) -> None:
        tmdb, limiter, _ = self.probing((401, error_body(7)), (200, page_body()))
        with pytest.raises(KeyRejected):
            tmdb.get(KEY, discover, time.monotonic() + 5)
        assert [name for name, _ in limiter.reports] == ["stop"]

    def test_nothing_is_requested_after_the_deadline(self) -> None:
        tmdb, _, adapter = self.probing((200, page_body()))
        with pytest.raises(NoToken):
            tmdb.get(KEY, discover, time.monotonic() - 0.001)
        assert adapter.urls == []


class TestCheckAnswers:
    """check_answers: a rejection is an answer too."""

    @pytest.mark.parametrize("key", [KEY, MovieKey(603)])
    @pytest.mark.parametrize("status", [400, 404, 422])
    def test_a_rejection_in_tmdbs_words_is_an_answer(self, key: PageKey | MovieKey, status: int) -> None:
        tmdb, _ = client(status, json.dumps(error_body(34)).encode())
        tmdb.check_answers(key, self.request_of(key), time.monotonic() + 5)

    @staticmethod
    def request_of(key: PageKey | MovieKey) -> Callable[[Any], Any]:
        return discover if isinstance(key, PageKey) else endpoints.details

    @pytest.mark.parametrize("key", [KEY, MovieKey(603)])
    @pytest.mark.parametrize(("status", "body"), [(500, b""), (200, b"{}"), (404, HTML), (302, b"")])
    def test_anything_else_is_a_failure(self, key: PageKey | MovieKey, status: int, body: bytes) -> None:
        tmdb, _ = client(status, body)
        with pytest.raises(ApiFailure):
            tmdb.check_answers(key, self.request_of(key), time.monotonic() + 5)

    def test_another_page_than_requested_is_a_failure(self) -> None:
        tmdb, _ = client(200, json.dumps(page_body(page=4)).encode())
        with pytest.raises(ApiFailure):
            tmdb.check_answers(KEY, discover, time.monotonic() + 5)
