"""Where `reelhaul ids load` reads from: files, addresses, and the newest list that TMDB has."""

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from producer.daily_ids import load_latest
from producer.sources import opened
from sandbox.embedded import free_port
from sandbox.servers import EmulatorProcess
from tests.support.id_list import lines
from worker.errors import UsageError
from worker.storage.database import Storage
from worker.storage.id_export import LONGEST_LINE

AT = datetime(2026, 5, 16, 9, tzinfo=UTC)
NAME = "movie_ids_05_15_2026.json.gz"


def lines_of(source: str) -> list[bytes]:
    with opened(source, LONGEST_LINE) as found:
        return list(found)


@pytest.mark.parametrize("name", ["ids.json.gz", "ids.json", "ids.jsonl", "ids"])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_file_is_unpacked_by_its_bytes_not_its_name(tmp_path: Path, name: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(b"".join(lines(range(1, 4_000)))))
    assert lines_of(str(tmp_path / name)) == list(lines(range(1, 4_000)))


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_damaged_gzip_is_rejected_with_the_line(tmp_path: Path, part: float) -> None:
    packed = gzip.compress(b"".join(lines(range(1, 4_000))))
    place = int(len(packed) * part)
    damaged = bytearray(packed)
    damaged[max(20, place) : max(20, place) + 8] = bytes(8)
    for content in (packed[: max(2, place)], damaged):
        (tmp_path / "ids.gz").write_bytes(content)
        with pytest.raises(
            UsageError, match=r"\Aids.gz, line [\d,]+: the gzip stream is damaged or cut short"
        ):
            lines_of(str(tmp_path / "ids.gz"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.gz", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"{path}: cannot be read: {words}"):
            lines_of(str(path))


class FilesHost(ThreadingHTTPServer):
    """Serves a list as `_Handler` does, and keeps the headers of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = b"".join(lines(range(1, 9_000)))
        self.requests: list[dict[str, str]] = []
        #: HTTP status by path of what is not there.
        self.absent: dict[str, int] = {}

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: FilesHost

    def do_GET(self) -> None:
        self.server.requests.append({name.lower(): value for name, value in self.headers.items()})
        content, path = self.server.content, self.path.partition("?")[0]
        if path in self.server.absent:
            self._head(self.server.absent[path], {"Content-Length": "0"})
        elif path == "/moved":
            self._head(302, {"Location": "/plain", "Content-Length": "0"})
        elif path == "/none":
            self._head(404, {"Content-Length": "0"})
        elif path == "/cut":
            self._head(200, {"Content-Length": str(len(content))})
            self.wfile.write(content[: len(content) // 2])
        elif path == "/gzip":
            self._head(200, {})
            self.wfile.write(gzip.compress(content))
        elif path == "/encoded":
            self._head(200, {"Content-Encoding": "gzip"})
            self.wfile.write(gzip.compress(gzip.compress(content)))
        else:
            self._head(200, {"Content-Length": str(len(content))})
            self.wfile.write(content)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def files_host() -> Iterator[FilesHost]:
    with FilesHost() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/plain", "/gzip", "/encoded", "/moved"])
def test_an_address_is_streamed_and_gets_no_key(
    files_host: FilesHost, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("TMDB_TOKEN", "a-token-that-stays-here")
    monkeypatch.setenv("TMDB_API_KEY", "a-key-that-stays-here")
    assert lines_of(files_host.address(path)) == list(lines(range(1, 9_000)))
    assert "stays-here" not in str(files_host.requests)
    assert all({"authorization", "cookie"}.isdisjoint(headers) for headers in files_host.requests)


def test_a_failed_download_is_one_line_without_the_query(files_host: FilesHost) -> None:
    for path, words in (
        ("/none?secret", r"/none: expected the list, got HTTP 404"),
        ("/cut?secret", r"/cut, line [\d,]+: the download broke off \((IncompleteRead|ProtocolError)\)"),
    ):
        with pytest.raises(UsageError, match=words) as raised:
            lines_of(files_host.address(path))
        assert "secret" not in str(raised.value)
    with pytest.raises(UsageError, match=r"/a: cannot be fetched: ConnectionError\Z"):
        lines_of(f"http://127.0.0.1:{free_port()}/a?secret")


TODAYS, YESTERDAYS = "/p/movie_ids_01_01_2027.json.gz", "/p/movie_ids_12_31_2026.json.gz"
NEW_YEAR = datetime(2027, 1, 1, 7, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("absent", "expected"), [({}, TODAYS), ({TODAYS: 404}, YESTERDAYS), ({TODAYS: 403}, YESTERDAYS)]
)
def test_the_latest_list_is_todays_or_else_yesterdays(
    files_host: FilesHost, storage: Storage, absent: dict[str, int], expected: str
) -> None:
    files_host.absent = absent
    loaded = load_latest(storage, files_host.address("/p"), NEW_YEAR)
    assert loaded == (8_999, files_host.address(expected))
    current = storage.id_export.current()
    assert current is not None
    assert (current.source, current.loaded_at) == (files_host.address(expected), NEW_YEAR)


def test_without_a_latest_list_the_previous_one_stays(files_host: FilesHost, storage: Storage) -> None:
    storage.id_export.load(lines([7]), NAME, AT)
    for absent, words in (
        ({TODAYS: 404, YESTERDAYS: 403}, f"{YESTERDAYS}: .* HTTP 403; .*; today's is not there either"),
        ({TODAYS: 500}, f"{TODAYS}: expected the list, got HTTP 500"),
    ):
        files_host.absent = absent
        with pytest.raises(UsageError, match=words):
            load_latest(storage, files_host.address("/p"), NEW_YEAR)
        assert storage.id_export.ids().tolist() == [7]


def test_the_emulators_list_is_its_catalogue(storage: Storage) -> None:
    with EmulatorProcess("--movies", "5000") as server:
        address = f"http://127.0.0.1:{server.port}/p/exports/{NAME}"
        odd = {
            "id": 900_001,
            "original_title": "half \ud83d",
            "video": True,
            "adult": True,
            "popularity": 7.50,
        }
        server.change_movies(upsert=[odd], delete=[json.loads(lines_of(address)[0])["id"]])
        listed = list(map(json.loads, lines_of(address)))
        assert server.stats()["arrivals"] == 0
        with opened(address, LONGEST_LINE) as found:
            assert storage.id_export.load(found, NAME, AT) == len(listed) == 5_000
    assert listed[-1] == odd
    assert list(listed[0]) == ["adult", "id", "original_title", "popularity", "video"]
    assert storage.id_export.ids().tolist() == sorted(movie["id"] for movie in listed)
    assert 900_001 in storage.id_export.flagged("video")[0]
