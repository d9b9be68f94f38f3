"""The client against a server with faults, and against recorded responses of TMDB."""

import csv
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from sandbox.servers import EmbeddedRedis, EmulatorProcess
from tests.support.comparison import catalogue
from worker.errors import (
    ApiFailure,
    Claimed,
    KeyRejected,
    NoToken,
    RateLimited,
    ReelhaulError,
    Rejected,
    Unparsable,
    Unstorable,
)
from worker.keys import MovieKey, PageKey
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate
from worker.records import Page
from worker.storage.database import Storage
from worker.tmdb.client import TmdbClient
from worker.tmdb.credentials import Credentials
from worker.tmdb.endpoints import details, discover
from worker.tmdb.session import build_session

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "recorded"
without_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="no recorded responses in ../shared/data/recorded"
)

PAGE_KEY = PageKey(18, "2020", 1)
#: Seconds that the client of these tests waits for a byte, and for a whole response.
TIMEOUT_S, WHOLE_S = 0.4, 1.2
#: Seconds after which a request counts as hung.
HUNG_S = 15.0
LIMITER_KEY = "limiter-of-test-tmdb"
TOKEN = "a-token-of-nobody"  # noqa: S105 -- the emulator accepts any


@pytest.fixture(scope="module")
def tmdb() -> Iterator[EmulatorProcess]:
    """One emulator; each test sets its faults."""
    with EmulatorProcess("--movies", "400") as server:
        yield server


@pytest.fixture(scope="module")
def shared_limiter(redis_server: EmbeddedRedis) -> Limiter:
    """One limiter for all tests; its listener needs the Redis client until the process ends."""
    client = redis.Redis.from_url(redis_server.url)
    return Limiter(client, Rate(2000, 1), 50, key=LIMITER_KEY)


@pytest.fixture
def limiter(shared_limiter: Limiter, redis_server: EmbeddedRedis) -> Limiter:
    """The limiter in its first state."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(LIMITER_KEY)
    return shared_limiter


@pytest.fixture
def client(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TmdbClient]]:
    """Makes a client for a base URL, with short timeouts."""
    monkeypatch.setattr("worker.tmdb.client.WHOLE_S", WHOLE_S)
    sessions = []

    def make(base_url: str, token: str = TOKEN, *, api_key: str = "") -> TmdbClient:
        credentials = Credentials(token, api_key)
        session = build_session(base_url, 4, credentials)
        sessions.append(session)
        return TmdbClient(session, base_url, limiter, TIMEOUT_S, credentials)

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def fetched(tmdb: EmulatorProcess, client: Callable[..., TmdbClient]) -> Iterator[Callable[[str], Any]]:
    """Fetches a page under a fault; returns the page or the error."""

    def fetch(fault: str) -> Page | ReelhaulError:
        tmdb.configure(faults=[fault])
        begun = time.monotonic()
        try:
            return client(tmdb.base_url).get(PAGE_KEY, discover, time.monotonic() + 30)
        except ReelhaulError as error:
            return error
        finally:
            assert time.monotonic() - begun < HUNG_S

    yield fetch
    tmdb.configure(faults=[])


def deadline() -> float:
    return time.monotonic() + 30


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            *((f"429={value}", RateLimited) for value in ("none", "0", "3", "date+5", "date-5")),
            ("429=absurd", RateLimited),
            ("429=garbage", RateLimited),
            *((f"status={status}/json", Rejected) for status in (400, 404, 405, 422)),
            ("status=401/json", KeyRejected),
            ("error=10", KeyRejected),
            # Not in TMDB's words: a proxy's.
            *((f"status={status}/{form}", ApiFailure)
              for status in (400, 401, 403, 404, 405, 407, 421, 451) for form in ("html", "empty")),
            *((f"status={status}", ApiFailure) for status in (201, 202, 204, 206, 300, 304, 406)),
            *((f"redirect={status}", ApiFailure) for status in (301, 302, 303, 307, 308)),
            *((f"status={status}/{form}", ApiFailure)
              for status in (500, 502, 503, 504) for form in ("json", "html", "empty")),
            *((f"error={code}", KeyRejected) for code in (3, 7, 10)),
            *((f"error={code}", Rejected) for code in (5, 20, 22, 23, 34)),
            *((f"error={code}", ApiFailure) for code in (9, 11, 24, 43, 46)),
            *((f"error-200={code}", KeyRejected) for code in (3, 7, 10)),
            ("error-200=34", Rejected),
            *((f"error-200={code}", Unparsable) for code in (9, 11, 24, 43, 46)),
            ("html", Unparsable),
            ("empty", Unparsable),
            ("not-json", Unparsable),
            *((f"reset={where}", ApiFailure) for where in ("start", "head", "body")),
            ("close", ApiFailure),
            ("truncate", ApiFailure),
            ("hang", ApiFailure),
            ("latency=20", ApiFailure),
            ("drip=20", ApiFailure),
            ("drip=4", ApiFailure),  # each byte in time, the whole response too late
            ("drip-head=20", ApiFailure),
            *((f"results={kind}", Unparsable) for kind in ("null", "object", "text", "missing")),
            ("wrong-page", Unparsable),
            ("wrong-page=7", Unparsable),
            *((f"hostile={what}", Unparsable) for what in ("abyss", "bad-ids", "bad-rows", "nan")),
            ("hostile=oversize", ApiFailure),
        ],
    )  # fmt: skip
    def test_each_fault_becomes_its_error(
        self, fetched: Callable[[str], Any], fault: str, kind: type[ReelhaulError]
    ) -> None:
        error = fetched(fault)
        assert type(error) is kind
        assert "\n" not in str(error)
        assert TOKEN not in str(error)

    @pytest.mark.parametrize(
        ("value", "least_s", "most_s"),
        [("0", 0, 0), ("3", 3, 3), ("date+5", 3, 9), ("date-5", 0, 0), ("absurd", 301, 1e12)],
    )
    def test_retry_after_is_read(
        self, fetched: Callable[[str], Any], value: str, least_s: float, most_s: float
    ) -> None:
        error = fetched(f"429={value}")
        assert least_s <= error.retry_after_s <= most_s

    @pytest.mark.parametrize("value", ["none", "garbage"])
    def test_an_unusable_retry_after_is_none(self, fetched: Callable[[str], Any], value: str) -> None:
        assert fetched(f"429={value}").retry_after_s is None

    @pytest.mark.parametrize(
        ("fault", "total_pages"),
        [("totals=58326/1166520", 58_326), ("totals=999999999999/1", 999_999_999_999)],
    )
    def test_any_totals_are_accepted(
        self, fetched: Callable[[str], Any], fault: str, total_pages: int
    ) -> None:
        assert fetched(fault).total_pages == total_pages

    def test_movies_beyond_the_last_page_are_unparsable(self, fetched: Callable[[str], Any]) -> None:
        error = fetched("totals=0/0")
        assert isinstance(error, Unparsable)
        assert str(error) == "movies on page 1 of 0"

    @pytest.mark.parametrize(
        "fault", ["gzip", "short=3", "latency=0.1", "drip=0.3", "drip-head=0.3", "early-hints", "echo"]
    )
    def test_odd_but_valid_responses_are_accepted(
        self, tmdb: EmulatorProcess, fetched: Callable[[str], Any], fault: str
    ) -> None:
        whole = fetched("latency=0")
        page = fetched(fault)
        kept = len(whole.results) - (3 if fault.startswith("short") else 0)
        assert page.results == whole.results[:kept]
        assert tmdb.stats()["by_fault"]

    @pytest.mark.parametrize(
        ("kind", "storable"),
        [
            ("bigint", False),
            ("big-id", False),
            ("reserved", False),
            ("nul", False),
            ("surrogate", False),
            ("duplicates", True),
            ("keys", True),
            ("megabyte", True),
        ],
    )
    def test_a_hostile_page_is_stored_unchanged_or_not_at_all(
        self, fetched: Callable[[str], Any], storage: Storage, kind: str, storable: bool
    ) -> None:
        page = fetched(f"hostile={kind}")
        if not storable:
            with pytest.raises(Unstorable):
                storage.pages.save(PAGE_KEY, page)
            assert not storage.pages.is_fresh(PAGE_KEY, None)
            return
        storage.pages.save(PAGE_KEY, page)
        assert_stored_as_sent(storage, page)

    def test_200_levels_of_nesting_are_stored_or_unstorable(
        self, fetched: Callable[[str], Any], storage: Storage
    ) -> None:
        """MongoDB accepts 100 levels, the embedded server more."""
        page = fetched("hostile=nesting")
        try:
            storage.pages.save(PAGE_KEY, page)
        except Unstorable:
            return
        assert_stored_as_sent(storage, page)


def let_a_minute_pass(server: EmbeddedRedis, limiter: Limiter) -> None:
    """Set the last check of the key back by a minute."""
    with redis.Redis.from_url(server.url) as client:
        client.hset(LIMITER_KEY, "checked", str(limiter.now_us() - 60_000_000))


class TestLimiter:
    def test_a_refusal_pauses_the_fleet(self, fetched: Callable[[str], Any], limiter: Limiter) -> None:
        fetched("429=30:count=1")
        state = limiter.state()
        assert (state.closed_reason, state.refused) == ("throttled", 1)
        assert state.closed_s is not None
        assert 20 < state.closed_s <= 30
        assert state.share < 1

    def test_a_rejected_key_stops_the_fleet_until_a_check_succeeds(
        self,
        tmdb: EmulatorProcess,
        client: Callable[..., TmdbClient],
        fetched: Callable[[str], Any],
        limiter: Limiter,
    ) -> None:
        assert isinstance(fetched("latency=0"), Page)
        with pytest.raises(KeyRejected):
            client(tmdb.base_url, "wrong").get(PAGE_KEY, discover, deadline())
        assert limiter.state().closed_reason.startswith("TMDB rejects the key")
        with pytest.raises(NoToken, match="TMDB rejects the key"):
            client(tmdb.base_url).get(PAGE_KEY, discover, time.monotonic() + 0.2)
        client(tmdb.base_url).check_key(deadline())
        assert limiter.state().closed_reason == ""
        assert client(tmdb.base_url).get(PAGE_KEY, discover, deadline()).number == 1

    def test_a_spurious_401_stops_the_fleet_for_a_minute(
        self,
        tmdb: EmulatorProcess,
        client: Callable[..., TmdbClient],
        limiter: Limiter,
        redis_server: EmbeddedRedis,
    ) -> None:
        tmdb.configure(faults=["error=7:count=1"])
        with pytest.raises(KeyRejected):
            client(tmdb.base_url).get(PAGE_KEY, discover, deadline())
        assert limiter.state().stopped
        let_a_minute_pass(redis_server, limiter)
        assert client(tmdb.base_url).get(PAGE_KEY, discover, deadline()).number == 1
        assert limiter.state().closed_reason == ""

    def test_a_key_still_rejected_after_a_minute_keeps_the_fleet_stopped(
        self,
        tmdb: EmulatorProcess,
        client: Callable[..., TmdbClient],
        limiter: Limiter,
        redis_server: EmbeddedRedis,
    ) -> None:
        tmdb.configure(faults=[])
        tmdb.reset()
        limiter.stop("TMDB rejects the key")
        let_a_minute_pass(redis_server, limiter)
        api = client(tmdb.base_url, "wrong")
        with pytest.raises(KeyRejected):
            api.get(PAGE_KEY, discover, deadline())
        with pytest.raises(NoToken, match="TMDB rejects the key"):
            api.get(PAGE_KEY, discover, time.monotonic() + 0.2)
        assert [row[3] for row in tmdb.log()] == ["configuration"]

    def test_the_key_check_reports_and_obeys_a_429(
        self, tmdb: EmulatorProcess, client: Callable[..., TmdbClient], limiter: Limiter
    ) -> None:
        tmdb.configure(faults=["429=30"])
        tmdb.reset()
        api = client(tmdb.base_url)
        with pytest.raises(RateLimited):
            api.check_key(deadline())
        assert limiter.state().refused == 1
        with pytest.raises(NoToken, match="throttled"):
            api.check_key(time.monotonic() + 0.5)
        assert len(tmdb.log()) == 1

    def test_the_key_check_reports_an_outage(
        self, tmdb: EmulatorProcess, client: Callable[..., TmdbClient], limiter: Limiter
    ) -> None:
        tmdb.configure(faults=["status=503/html"])
        api = client(tmdb.base_url)
        for _ in range(3):
            with pytest.raises(ApiFailure):
                api.check_key(deadline())
        assert limiter.state().closed_reason == "outage"

    @pytest.mark.parametrize(
        "fault", ["status=503/html", "redirect", "status=400/html", "status=204", "close"]
    )
    def test_failures_in_a_row_close_it_and_a_probe_opens_it(
        self, tmdb: EmulatorProcess, client: Callable[..., TmdbClient], limiter: Limiter, fault: str
    ) -> None:
        tmdb.configure(faults=[f"{fault}:count=3"])
        api = client(tmdb.base_url)
        for _ in range(3):
            with pytest.raises(ApiFailure):
                api.get(PAGE_KEY, discover, deadline())
        assert limiter.state().closed_reason == "outage"
        assert api.get(PAGE_KEY, discover, deadline()).number == 1
        assert limiter.state().closed_reason == ""

    def test_a_refused_connection_is_a_failure(
        self, client: Callable[..., TmdbClient], limiter: Limiter
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ApiFailure, match=r"\AConnectionError\Z"):
            client(f"http://127.0.0.1:{port}/3").get(PAGE_KEY, discover, deadline())
        assert limiter.state().granted == 1

    @pytest.mark.parametrize("kind", ["a page", "a movie"])
    def test_a_claimed_page_or_movie_is_not_requested(
        self,
        tmdb: EmulatorProcess,
        client: Callable[..., TmdbClient],
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
    ) -> None:
        monkeypatch.setattr("worker.limiter.client.CLAIM_MS", 60_000)  # however slow this machine is
        api = client(tmdb.base_url)
        movie = MovieKey(min(catalogue(tmdb)))

        def ask() -> None:
            if kind == "a page":
                api.get(PageKey(18, "2011", 7), discover, deadline())
            else:
                api.get(movie, details, deadline())

        tmdb.reset()
        other = threading.Thread(target=ask)
        other.start()
        other.join()
        with pytest.raises(Claimed):
            ask()
        assert tmdb.stats()["arrivals"] == 1


class TestSecrets:
    def test_no_error_shows_the_key_in_the_url(
        self, tmdb: EmulatorProcess, client: Callable[..., TmdbClient], limiter: Limiter
    ) -> None:
        api = client(tmdb.base_url, "", api_key=TOKEN)
        assert api.get(PAGE_KEY, discover, deadline()).number == 1
        for fault in ("reset=start", "close", "hang", "status=500/json", "error=34", "truncate", "html"):
            tmdb.configure(faults=[f"{fault}:count=1"])
            with pytest.raises(ReelhaulError) as error:
                api.get(PAGE_KEY, discover, deadline())
            assert TOKEN not in f"{error.value!r}{error.value}"
            assert error.value.__cause__ is None
            limiter.resume()
        tmdb.configure(faults=[])

    def test_a_connection_error_does_not_show_the_key(self, client: Callable[..., TmdbClient]) -> None:
        with pytest.raises(ApiFailure) as error:
            client("http://127.0.0.1:1/3", "", api_key=TOKEN).get(PAGE_KEY, discover, deadline())
        assert TOKEN not in f"{error.value!r}{error.value}"

    @pytest.mark.parametrize("token", ["e", "the", "id", "demo", "0", "page"])
    def test_a_short_key_does_not_change_the_page(
        self, tmdb: EmulatorProcess, client: Callable[..., TmdbClient], token: str
    ) -> None:
        tmdb.configure(faults=[])
        whole = client(tmdb.base_url).get(PAGE_KEY, discover, deadline())
        assert client(tmdb.base_url, token).get(PAGE_KEY, discover, deadline()).results == whole.results


def assert_stored_as_sent(storage: Storage, page: Page) -> None:
    """Every movie of the page is stored unchanged, its fields in their order."""
    sent = {movie["id"]: json.dumps(movie) for movie in page.results}
    twice = {id_ for id_ in sent if sum(movie["id"] == id_ for movie in page.results) > 1}
    stored = {}
    for movie in storage.movies.each():
        del movie["_id"], movie["_meta"]
        stored[movie["id"]] = json.dumps(movie)
    assert stored.keys() == sent.keys()
    assert {id_: text for id_, text in stored.items() if id_ not in twice} == {
        id_: text for id_, text in sent.items() if id_ not in twice
    }
    versions = {json.dumps(movie) for movie in page.results}
    assert set(stored.values()) <= versions
    record = storage.pages.collection.find_one()
    assert record is not None
    assert record["movie_ids"] == [movie["id"] for movie in page.results]


@pytest.fixture
def canned() -> Iterator[Callable[[int, bytes], str]]:
    """Starts a server that sends one status and body; returns the base URL."""
    servers: list[ThreadingHTTPServer] = []

    def serve(status: int, body: bytes) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json;charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/3"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def recorded(*prefixes: str) -> list[Path]:
    return sorted(path for prefix in prefixes for path in RECORDED.glob(f"{prefix}-*.json"))


def manifest() -> dict[str, dict[str, str]]:
    with (RECORDED / "MANIFEST.tsv").open(encoding="utf-8", newline="") as lines:
        return {row["file"]: row for row in csv.DictReader(lines, delimiter="\t")}


@without_recordings
class TestRecordings:
    def test_recordings_of_each_kind_exist(self) -> None:
        for prefix in ("discover-movie", "movie-popular", "search-movie", "error", "genre-movie-list"):
            assert recorded(prefix), prefix

    @pytest.mark.parametrize(
        "path", recorded("discover-movie", "movie-popular", "search-movie"), ids=lambda path: path.stem
    )
    def test_a_list_passes_through_client_and_store_unchanged(
        self,
        path: Path,
        canned: Callable[[int, bytes], str],
        client: Callable[..., TmdbClient],
        storage: Storage,
    ) -> None:
        body = path.read_bytes()
        sent = json.loads(body)
        key = PageKey(18, "2020", sent["page"])
        page = client(canned(200, body)).get(key, discover, deadline())
        assert page.body == body
        assert json.dumps(page.results) == json.dumps(sent["results"])
        assert (page.total_pages, page.total_results) == (sent["total_pages"], sent["total_results"])
        storage.pages.save(key, page)
        assert_stored_as_sent(storage, page)
        assert storage.pages.is_fresh(key, page.fetched_at)

    @pytest.mark.parametrize("path", recorded("error"), ids=lambda path: path.stem)
    def test_an_error_body_becomes_its_error(
        self, path: Path, canned: Callable[[int, bytes], str], client: Callable[..., TmdbClient]
    ) -> None:
        status = int(path.stem.split("-")[1])
        assert status == int(manifest()[path.name]["http_status"])
        kinds: dict[int, type[ReelhaulError]] = {401: KeyRejected, 429: RateLimited}
        with pytest.raises(ReelhaulError) as error:
            client(canned(status, path.read_bytes())).get(PAGE_KEY, discover, deadline())
        assert type(error.value) is kinds.get(status, Rejected)
        if isinstance(error.value, Rejected):
            body = json.loads(path.read_bytes())
            message = body.get("status_message") or body["errors"][0]
            assert message in str(error.value)
            assert error.value.response is not None
            assert error.value.response.body == path.read_bytes()

    @pytest.mark.parametrize("path", recorded("genre-movie-list"), ids=lambda path: path.stem)
    def test_genres_are_parsed(
        self, path: Path, canned: Callable[[int, bytes], str], client: Callable[..., TmdbClient]
    ) -> None:
        body = path.read_bytes()
        names = client(canned(200, body)).genres(deadline())
        assert [{"id": id_, "name": name} for id_, name in names.items()] == json.loads(body)["genres"]

    @pytest.mark.parametrize("path", recorded("configuration"), ids=lambda path: path.stem)
    def test_the_configuration_shows_that_the_key_works(
        self, path: Path, canned: Callable[[int, bytes], str], client: Callable[..., TmdbClient]
    ) -> None:
        client(canned(200, path.read_bytes())).check_key(deadline())
