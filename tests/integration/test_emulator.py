"""The emulated TMDB from outside: a process on a free port."""

import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from sandbox.emulator.catalog import GENRES, SORT_FIELDS
from sandbox.emulator.cli import emulator as emulator_command
from sandbox.emulator.limit import default_capacity
from sandbox.emulator.synthetic import synthetic_movies
from sandbox.servers import EmulatorProcess

StartEmulator = Callable[..., EmulatorProcess]

MOVIES = 600
TIMEOUT_S = 10.0
DEADLINE_S = 10.0


def get(server: EmulatorProcess, path: str, **params: str | int) -> requests.Response:
    headers = {"Authorization": "Bearer some-token"}
    url = f"{server.base_url}/{path}"
    return requests.get(url, params=params, headers=headers, timeout=TIMEOUT_S)


def control(server: EmulatorProcess, name: str, body: str) -> requests.Response:
    return requests.post(f"http://127.0.0.1:{server.port}/_emulator/{name}", data=body, timeout=TIMEOUT_S)


def all_pages(server: EmulatorProcess, path: str, **params: str | int) -> list[dict[str, Any]]:
    first = get(server, path, **params).json()
    pages = [
        first,
        *(get(server, path, **params, page=page).json() for page in range(2, first["total_pages"] + 1)),
    ]
    assert [page["page"] for page in pages] == list(range(1, first["total_pages"] + 1))
    assert all(len(page["results"]) == 20 for page in pages[:-1])
    rows = [row for page in pages for row in page["results"]]
    assert len(rows) == first["total_results"]
    return rows


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def tmdb() -> Iterator[EmulatorProcess]:
    """An emulator for tests that change nothing."""
    with EmulatorProcess("--movies", str(MOVIES), "--seed", "7") as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorProcess]:
    """An emulator for tests that set its faults."""
    with EmulatorProcess("--movies", "200") as server:
        yield server


@pytest.fixture(scope="module")
def catalogue(tmdb: EmulatorProcess) -> list[dict[str, Any]]:
    return list(tmdb.movies().values())


class TestEndpoints:
    def test_the_body_is_compact_and_has_tmdbs_order_of_keys(self, tmdb: EmulatorProcess) -> None:
        response = get(tmdb, "discover/movie", with_genres=18)
        assert response.headers["content-type"] == "application/json;charset=utf-8"
        assert list(response.json()) == ["page", "results", "total_pages", "total_results"]
        compact = json.dumps(response.json(), separators=(",", ":"), ensure_ascii=False)
        assert response.content == compact.encode()

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.sampled_from(list(SORT_FIELDS)), st.sampled_from(["asc", "desc"]), st.sampled_from([18, 35, None])
    )
    def test_pages_partition_the_selection(
        self,
        tmdb: EmulatorProcess,
        catalogue: list[dict[str, Any]],
        field: str,
        direction: str,
        genre: int | None,
    ) -> None:
        genre_filter: dict[str, str | int] = {"with_genres": genre} if genre else {}
        rows = all_pages(tmdb, "discover/movie", sort_by=f"{field}.{direction}", **genre_filter)
        wanted = [movie for movie in catalogue if genre is None or genre in movie["genre_ids"]]
        assert sorted(rows, key=lambda row: int(row["id"])) == sorted(wanted, key=lambda row: int(row["id"]))
        shown = "release_date" if field == "primary_release_date" else field
        if field != "revenue":
            values = [row[shown] for row in rows]
            assert values == sorted(values, reverse=direction == "desc")

    @pytest.mark.parametrize(
        ("params", "is_wanted"),
        [
            ({"with_genres": "18,35"}, lambda movie: {18, 35} <= set(movie["genre_ids"])),
            ({"with_genres": "18|35"}, lambda movie: {18, 35} & set(movie["genre_ids"])),
            ({"primary_release_year": 2020}, lambda movie: movie["release_date"].startswith("2020")),
            (
                {"primary_release_date.gte": "2019-05-01", "primary_release_date.lte": "2020-02-28"},
                lambda movie: "2019-05-01" <= movie["release_date"] <= "2020-02-28",
            ),
            (
                {"primary_release_date.lte": "1960-01-01"},
                lambda movie: "" < movie["release_date"] <= "1960-01-01",
            ),
            ({"with_colour": "red"}, lambda movie: True),  # noqa: ARG005 -- TMDB ignores unknown filters
        ],
    )
    def test_filters(
        self, tmdb: EmulatorProcess, catalogue: list[dict[str, Any]], params: Any, is_wanted: Any
    ) -> None:
        wanted = sorted(movie["id"] for movie in catalogue if is_wanted(movie))
        assert wanted
        assert sorted(row["id"] for row in all_pages(tmdb, "discover/movie", **params)) == wanted

    def test_an_empty_selection_is_one_page(self, tmdb: EmulatorProcess) -> None:
        nothing = {"page": 1, "results": [], "total_pages": 1, "total_results": 0}
        assert get(tmdb, "discover/movie", primary_release_year=1801).json() == nothing

    def test_a_page_beyond_the_last_is_empty(self, tmdb: EmulatorProcess) -> None:
        response = get(tmdb, "discover/movie", page=500)
        assert (response.status_code, response.json()["results"]) == (200, [])
        assert response.json()["total_pages"] == MOVIES // 20

    @pytest.mark.parametrize("page", ["501", "0", "-1", "x", "1.5"])
    @pytest.mark.parametrize("path", ["discover/movie", "movie/popular", "movie/changes"])
    def test_a_page_out_of_range_is_an_error(self, tmdb: EmulatorProcess, path: str, page: str) -> None:
        response = get(tmdb, path, page=page)
        message = "Invalid page: Pages start at 1 and max at 500. They are expected to be an integer."
        assert response.status_code == 400
        assert response.text == f'{{"success":false,"status_code":22,"status_message":"{message}"}}'

    def test_total_pages_is_not_capped(self, emulator: StartEmulator) -> None:
        server = emulator("--movies", "10100", "--old-page-error")
        assert get(server, "discover/movie").json()["total_pages"] == 505
        response = get(server, "discover/movie", page=501)
        assert (response.status_code, response.text) == (
            422,
            '{"errors":["page must be less than or equal to 500"]}',
        )

    def test_genres_have_the_same_ids_in_every_language(self, tmdb: EmulatorProcess) -> None:
        genres = get(tmdb, "genre/movie/list", language="da").json()["genres"]
        assert [genre["id"] for genre in genres] == list(GENRES)
        assert len(genres) == 19

    def test_popular_and_search(self, tmdb: EmulatorProcess, catalogue: list[dict[str, Any]]) -> None:
        popular = get(tmdb, "movie/popular").json()
        assert popular["results"][0]["popularity"] == max(movie["popularity"] for movie in catalogue)
        wanted = sorted(movie["id"] for movie in catalogue if "moon" in movie["title"].lower())
        assert sorted(row["id"] for row in all_pages(tmdb, "search/movie", query="MOON")) == wanted
        error = get(tmdb, "search/movie")
        assert (error.status_code, error.json()["status_code"]) == (422, 5)

    def test_details(self, tmdb: EmulatorProcess, catalogue: list[dict[str, Any]]) -> None:
        movie = next(movie for movie in catalogue if len(movie["genre_ids"]) == 2)
        details = get(tmdb, f"movie/{movie['id']}", append_to_response="credits,keywords,unknown").json()
        assert "genre_ids" not in details
        assert details["genres"] == [{"id": genre, "name": GENRES[genre]} for genre in movie["genre_ids"]]
        assert details["overview"] == movie["overview"]
        assert {"credits", "keywords", "runtime", "imdb_id"} <= details.keys()
        assert "unknown" not in details

    @pytest.mark.parametrize("path", ["movie/1", "movie/none", "tv/1", "discover"])
    def test_an_unknown_path_is_404(self, tmdb: EmulatorProcess, path: str) -> None:
        response = get(tmdb, path)
        assert response.status_code == 404
        assert response.text == (
            '{"success":false,"status_code":34,'
            '"status_message":"The resource you requested could not be found."}'
        )

    @pytest.mark.parametrize(
        ("params", "status", "code"),
        [
            ({"start_date": "2026-01-01", "end_date": "2026-01-15"}, 200, None),
            ({"start_date": "2026-01-01", "end_date": "2026-01-16"}, 422, 20),
            ({"start_date": "2026-01-02", "end_date": "2026-01-01"}, 422, 20),
            ({"end_date": "2026-02-30"}, 400, 23),
            ({"end_date": "yesterday"}, 400, 23),
        ],
    )
    def test_changes_cover_at_most_14_days(
        self, tmdb: EmulatorProcess, params: dict[str, str], status: int, code: int | None
    ) -> None:
        response = get(tmdb, "movie/changes", **params)
        assert (response.status_code, response.json().get("status_code")) == (status, code)

    def test_configuration(self, tmdb: EmulatorProcess) -> None:
        assert get(tmdb, "configuration").json()["images"]["secure_base_url"].startswith("https://")


class TestKeys:
    def status(
        self, server: EmulatorProcess, *, bearer: str | None = None, api_key: str | None = None
    ) -> int:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
        params = {"api_key": api_key} if api_key is not None else {}
        url = f"{server.base_url}/configuration"
        response = requests.get(url, headers=headers, params=params, timeout=TIMEOUT_S)
        if response.status_code == 401:
            message = "Invalid API key: You must be granted a valid key."
            assert response.json() == {"success": False, "status_code": 7, "status_message": message}
        return response.status_code

    def test_every_key_but_wrong_ones_is_accepted(self, tmdb: EmulatorProcess) -> None:
        assert self.status(tmdb) == 401
        assert self.status(tmdb, bearer="") == 401
        assert self.status(tmdb, bearer="wrong") == 401
        assert self.status(tmdb, api_key="wrong-key-of-nobody") == 401
        assert self.status(tmdb, bearer="any") == 200
        assert self.status(tmdb, api_key="any") == 200

    def test_only_named_keys_are_accepted(self, emulator: StartEmulator) -> None:
        server = emulator("--movies", "1", "--key", "one", "--key", "two")
        assert [self.status(server, bearer=key) for key in ("one", "two", "three")] == [200, 200, 401]


class TestLimit:
    def test_at_most_capacity_plus_rate_times_t_pass(self, emulator: StartEmulator) -> None:
        server = emulator("--movies", "20", "--rate", "5", "--capacity", "5")
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: get(server, "configuration").status_code, range(120)))
        rows = server.log()
        assert [row[0] for row in rows] == list(range(120))
        assert sorted(row[2] for row in rows) == sorted(statuses)
        passed = [row[1] for row in rows if row[2] == 200]
        assert 429 in statuses
        for first, start_s in enumerate(passed):
            for last in range(first, len(passed)):
                # The log keeps microseconds.
                assert last - first + 1 <= 5 + 5 * (passed[last] - start_s) + 1e-3

    def test_a_refusal_has_code_25_and_no_retry_after(self, emulator: StartEmulator) -> None:
        server = emulator("--movies", "1", "--rate", "0.001", "--capacity", "1")
        get(server, "configuration")
        refused = get(server, "configuration")
        assert refused.status_code == 429
        assert refused.json() == {
            "status_code": 25,
            "status_message": "Your request count (2) is over the allowed limit of 1.",
        }
        assert "retry-after" not in refused.headers
        server.configure(rate=None)
        assert get(server, "configuration").status_code == 200

    def test_default_capacity(self) -> None:
        assert default_capacity(1) == 2
        assert default_capacity(40) == 14


class TestControlPlane:
    def test_the_log_has_each_arrival(self, emulator: StartEmulator) -> None:
        server = emulator("--movies", "20")
        began_s = time.monotonic()
        get(server, "discover/movie", with_genres="18", primary_release_year=1999, page=3)
        window = {"primary_release_date.gte": "1999-01-01", "primary_release_date.lte": "1999-06-30"}
        get(server, "discover/movie", with_genres="18", **window)
        get(server, "movie/7")
        ended_s = time.monotonic()
        rows = server.log()
        assert [(row[0], row[2], row[3], row[4], row[6]) for row in rows] == [
            (0, 200, "discover", "18:1999:3", None),
            (1, 200, "discover", "18:1999-01-01/1999-06-30:1", None),
            (2, 404, "details", "7", None),
        ]
        assert began_s <= rows[0][1] <= rows[1][1] <= rows[2][1] <= ended_s
        assert all(0 <= row[5] <= ended_s - began_s for row in rows)
        assert server.log(since=2) == rows[2:]
        stats = server.stats()
        assert (stats["arrivals"], stats["by_status"], stats["by_kind"]) == (
            3,
            {"200": 2, "404": 1},
            {"details": 1, "discover": 2},
        )
        server.reset()
        assert server.log() == []

    def test_requests_and_connections_are_counted_while_open(self, emulator: StartEmulator) -> None:
        server = emulator("--movies", "20", "--fault", "hang")
        sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for client in sockets:
            client.sendall(b"GET /3/configuration HTTP/1.1\r\nHost: tmdb\r\n\r\n")
        wait_until(lambda: bool(server.stats()["open_requests"] == 3))
        assert server.stats()["open_connections"] == 3
        for client in sockets:
            client.close()
        wait_until(lambda: bool(server.stats()["open_connections"] == 0))
        stats = server.stats()
        assert (stats["peak_concurrent_requests"], stats["peak_connections"]) == (3, 3)
        assert stats["by_status"] == {"0": 3}

    def test_configuration_changes_live(self, emulator: StartEmulator) -> None:
        server = emulator("--movies", "20", "--latency-ms", "1")
        server.configure(faults=["status=500:count=1", "html:p=0.5:match=x:y"], clock_offset_s=86400, rate=9)
        answer = requests.get(f"http://127.0.0.1:{server.port}/_emulator/config", timeout=TIMEOUT_S).json()
        assert answer["config"] == {
            "rate": 9.0,
            "capacity": None,
            "latency_ms": 1.0,
            "faults": ["status=500:count=1", "html:p=0.5:match=x:y"],
            "clock_offset_s": 86400.0,
        }
        assert [get(server, "configuration").status_code for _ in range(2)] == [500, 200]
        server.configure(**answer["config"])

    @pytest.mark.parametrize(
        ("name", "body", "message"),
        [
            ("config", '{"rate":0}', "rate: Input should be greater than 0"),
            ("config", '{"faults":["teapot"]}', "unknown kind 'teapot'"),
            ("config", '{"speed":1}', "speed: Extra inputs"),
            ("config", "nonsense", "Expecting value"),
            ("movies", '{"delete":[1000000000]}', "there is no movie 1000000000"),
            ("movies", '{"upsert":[{"title":"none"}]}', "id must be an integer above 0"),
        ],
    )
    def test_an_invalid_request_is_400_and_changes_nothing(
        self, tmdb: EmulatorProcess, name: str, body: str, message: str
    ) -> None:
        response = control(tmdb, name, body)
        assert response.status_code == 400
        assert message in response.json()["error"]
        assert get(tmdb, "discover/movie").json()["total_results"] == MOVIES

    def test_changed_movies_are_served_and_listed_on_their_day(self, emulator: StartEmulator) -> None:
        server = emulator("--movies", "200", "--seed", "3")
        gone, moved, *_ = [movie["id"] for movie in server.movies().values()]
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
        server.configure(clock_offset_s=86400)
        server.change_movies(
            upsert=[
                {"id": 999_999_999, "title": "New \ud83d", "genre_ids": [18], "release_date": "1850-01-01"}
            ],
            move=[{"id": moved, "release_date": "1850-12-31"}],
            delete=[gone],
        )
        assert get(server, f"movie/{gone}").status_code == 404
        assert {row["id"] for row in all_pages(server, "discover/movie", primary_release_year=1850)} == {
            999_999_999,
            moved,
        }
        changes = get(server, "movie/changes", start_date=str(tomorrow), end_date=str(tomorrow)).json()
        assert list(changes) == ["results", "page", "total_pages", "total_results"]
        assert sorted(changes["results"], key=lambda row: int(row["id"])) == sorted(
            [{"id": gone, "adult": None}, {"id": moved, "adult": False}, {"id": 999_999_999, "adult": False}],
            key=lambda row: int(row["id"]),
        )
        yesterday = str(tomorrow - timedelta(days=2))
        assert get(server, "movie/changes", start_date=yesterday, end_date=yesterday).json()["results"] == []
        assert len(server.movies()) == 200


class TestDelivery:
    """Faults that only a client on a socket can see; unit/test_faults.py tests bodies."""

    def pieces(self, server: EmulatorProcess, *faults: str) -> list[bytes]:
        """What each recv returns for a page of discover, until the connection ends or is reset."""
        server.configure(faults=list(faults))
        server.reset()
        request = b"GET /3/discover/movie?api_key=x HTTP/1.1\r\nHost: tmdb\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as client:
            client.sendall(request)
            return list(iter(lambda: client.recv(65536), b""))

    def read_raw(self, server: EmulatorProcess, *faults: str) -> bytes:
        return b"".join(self.pieces(server, *faults))

    def last_row(self, server: EmulatorProcess) -> list[Any]:
        wait_until(lambda: server.log()[-1][2] is not None)
        return server.log()[-1]

    @pytest.mark.parametrize(("where", "status"), [("start", 0), ("head", 200), ("body", 200)])
    def test_reset(self, server: EmulatorProcess, where: str, status: int) -> None:
        with pytest.raises(ConnectionResetError):
            self.read_raw(server, f"reset={where}")
        row = self.last_row(server)
        assert (row[2], row[6]) == (status, "reset")

    def test_close(self, server: EmulatorProcess) -> None:
        assert self.read_raw(server, "close") == b""
        assert self.last_row(server)[2] == 0

    def test_truncate(self, server: EmulatorProcess) -> None:
        head, _, body = self.read_raw(server, "truncate").partition(b"\r\n\r\n")
        promised = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert 0 < len(body) < promised

    @pytest.mark.parametrize("fault", ["drip=0.2", "latency=0.2", "drip-head=0.5"])
    def test_a_late_response_is_complete(self, server: EmulatorProcess, fault: str) -> None:
        head, _, body = self.read_raw(server, fault).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(body)["results"]) == 20
        _, _, status, _, _, duration_s, struck_by = self.last_row(server)
        kind, _, seconds = fault.partition("=")
        assert (status, struck_by) == (200, kind)
        assert duration_s >= float(seconds)

    @pytest.mark.parametrize("fault", ["drip=1", "drip-head=1"])
    def test_a_dripping_response_comes_in_pieces(self, server: EmulatorProcess, fault: str) -> None:
        assert len(self.pieces(server, fault)) >= 5

    def test_early_hints_come_before_the_response(self, server: EmulatorProcess) -> None:
        hints, _, answer = self.read_raw(server, "early-hints").partition(b"\r\n\r\n")
        assert hints.startswith(b"HTTP/1.1 103 ")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["results"]) == 20

    @pytest.mark.parametrize("status", [201, 204, 302, 304, 418])
    def test_a_response_with_any_final_status_ends(self, server: EmulatorProcess, status: int) -> None:
        answer = self.read_raw(server, f"status={status}")
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert (answer.partition(b"\r\n\r\n")[2] == b"") == (status in (204, 304))

    def test_a_redirect_and_an_echo_show_the_request(self, server: EmulatorProcess) -> None:
        server.configure(faults=["redirect:count=1", "echo=400"])
        moved = get(server, "movie/7", api_key="secret")
        assert moved.history[0].headers["location"] == "/3/portal?from=%2F3%2Fmovie%2F7%3Fapi_key%3Dsecret"
        assert moved.status_code == 400
        error = get(server, "movie/7", api_key="secret")
        assert error.headers["content-location"] == "/3/movie/7?api_key=secret"
        assert error.headers["x-authorization"] == "Bearer some-token"
        assert "api_key=secret Bearer some-token" in error.json()["status_message"]

    def test_a_first_page_can_be_empty_once(self, server: EmulatorProcess) -> None:
        server.configure(faults=["no-results:count=1:match=[?&]page=1(&|$)"])
        totals = [get(server, "discover/movie", page=page).json()["total_results"] for page in (2, 1, 1)]
        assert totals == [200, 0, 200]

    def test_totals_can_differ_between_pages(self, server: EmulatorProcess) -> None:
        server.configure(faults=["totals=+0/+1:match=[?&]page=2(&|$)"])
        totals = [get(server, "discover/movie", page=page).json()["total_results"] for page in (1, 2, 3)]
        assert totals == [200, 201, 200]

    def test_gzip_bytes_come_without_content_encoding(self, server: EmulatorProcess) -> None:
        head, _, body = self.read_raw(server, "gzip").partition(b"\r\n\r\n")
        assert b"content-encoding" not in head.lower()
        assert len(json.loads(gzip.decompress(body))["results"]) == 20

    def test_a_hang_ends_when_the_client_disconnects(self, server: EmulatorProcess) -> None:
        server.configure(faults=["hang:count=1"])
        server.reset()
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{server.base_url}/configuration", timeout=0.2)
        row = self.last_row(server)
        assert (row[2], row[6]) == (0, "hang")

    def test_an_outage_begins_and_ends(self, server: EmulatorProcess) -> None:
        server.configure(faults=["status=502:from=3600", "status=503/html:for=3600"])
        assert get(server, "configuration").status_code == 503
        server.configure(faults=["status=503/html:for=0.01"])
        wait_until(lambda: get(server, "configuration").status_code == 200)

    def test_shifted_pages_repeat_one_movie_and_omit_another(self, server: EmulatorProcess) -> None:
        server.configure(faults=[])
        every = {row["id"] for row in all_pages(server, "discover/movie")}
        server.configure(faults=["shift=1"])
        shown = [
            row["id"]
            for page in range(1, 11)
            for row in get(server, "discover/movie", page=page).json()["results"]
        ]
        assert len(shown) == 200
        assert len(set(shown)) == 199
        assert set(shown) < every

    def test_a_fault_strikes_only_what_it_matches(self, server: EmulatorProcess) -> None:
        server.configure(faults=["error=34:match=[?&]page=2(&|$)"])
        statuses = [get(server, "discover/movie", page=page).status_code for page in (1, 2, 22)]
        assert statuses == [200, 404, 200]


class TestCommand:
    """Commands that fail before they serve run in this process, which is faster."""

    def run(self, *options: str) -> Result:
        command = typer.Typer()
        command.command()(emulator_command)
        return CliRunner().invoke(command, options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--rate", "-1"], "--rate must be above 0, got -1.0"),
            (["--rate", "nan"], "--rate must be above 0, got nan"),
            (["--capacity", "0"], "--capacity must be 1 or more, got 0.0"),
            (["--latency-ms", "-5"], "--latency-ms must be 0 or more, got -5.0"),
            (["--movies", "-1"], "--movies must be 0 or more, got -1"),
            (["--fault", "teapot"], "unknown kind 'teapot'"),
            (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0: Cannot assign requested address"),
        ],
    )
    def test_an_invalid_option_is_one_line_and_exit_code_2(self, options: list[str], message: str) -> None:
        ended = self.run(*options)
        assert ended.exit_code == 2
        assert message in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert ended.stdout == ""

    def test_an_invalid_catalogue_is_one_line_and_exit_code_2(self, tmp_path: Path) -> None:
        path = tmp_path / "movies.jsonl"
        path.write_text('{"id":1}\n{"id":}\n')
        ended = self.run("--catalog", str(path))
        assert (ended.exit_code, ended.stderr) == (
            2,
            f"reelhaul: {path}, line 2: not JSON (Expecting value)\n",
        )

    def test_a_port_in_use_is_one_line_and_exit_code_2(self, tmdb: EmulatorProcess) -> None:
        ended = self.run("--port", str(tmdb.port))
        assert ended.exit_code == 2
        assert ended.stderr == f"reelhaul: cannot listen on 127.0.0.1:{tmdb.port}: Address already in use\n"

    @pytest.mark.parametrize("options", [[], ["--fault", "hang"]])
    def test_sigterm_ends_it_with_exit_code_0_while_a_request_hangs(self, options: list[str]) -> None:
        command = [sys.executable, "-m", "sandbox.emulator", "--movies", "10", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            address = child.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            assert address.endswith("/3")
            port = int(address.removesuffix("/3").rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /3/configuration HTTP/1.1\r\nHost: tmdb\r\n\r\n")
                child.terminate()
                assert child.wait(DEADLINE_S) == 0
            assert (child.stdout.read(), child.stderr.read()) == ("", "")

    def test_a_file_is_served_token_for_token(self, emulator: StartEmulator, tmp_path: Path) -> None:
        path = tmp_path / "movies.jsonl.gz"
        lines = [
            b'{"id": 1, "genre_ids": [18], "vote_average": 7.50, "x": 1e2}',
            *(m.raw for m in synthetic_movies(9, 1)),
        ]
        path.write_bytes(gzip.compress(b"\n".join(lines)))
        server = emulator("--catalog", str(path))
        body = get(server, "discover/movie", sort_by="vote_count.asc").content
        assert b'{"id":1,"genre_ids":[18],"vote_average":7.50,"x":1e2}' in body
        assert all(line in body for line in lines[1:])
