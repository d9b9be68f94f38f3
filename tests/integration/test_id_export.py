"""The daily list of ids: loaded whole or not at all, read whole, and held against what is stored."""

import gzip
import json
import random
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from producer.audit import audit, missing_ids
from producer.cli.ids import opened
from sandbox.embedded import free_port
from sandbox.servers import EmulatorProcess
from worker.errors import MongoUnavailable, UsageError
from worker.storage.database import Storage
from worker.storage.id_export import BLOCK, IdExport, Loaded

AT = datetime(2026, 5, 16, 9, tzinfo=UTC)
NAME = "movie_ids_05_15_2026.json.gz"


@pytest.fixture
def database(mongo_url: str) -> Iterator[Database[dict[str, Any]]]:
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(mongo_url, tz_aware=True, tzinfo=UTC) as client:
        yield client.get_default_database()


@pytest.fixture
def export(database: Database[dict[str, Any]]) -> IdExport:
    return IdExport(Mongo(database, own_now))


def line(id_: int, **facts: object) -> bytes:
    movie = {"adult": False, "id": id_, "original_title": f"No {id_}", "popularity": 0.6, "video": False}
    return json.dumps({**movie, **facts}).encode() + b"\n"


def lines(ids: Iterable[int]) -> Iterator[bytes]:
    return map(line, ids)


def blocks(database: Database[dict[str, Any]]) -> dict[int, int]:
    """How many blocks of each load are kept."""
    found: dict[int, int] = {}
    for block in database["ids"].find({"movies": {"$type": "array"}}, {"load": 1}):
        found[block["load"]] = found.get(block["load"], 0) + 1
    return found


def test_before_the_first_load_there_is_nothing(export: IdExport) -> None:
    assert export.current() is None
    assert [ids.tolist() for ids in (export.ids(), *export.flagged("adult", "video"))] == [[], [], []]


def test_a_load_takes_the_place_of_the_one_before(
    export: IdExport, database: Database[dict[str, Any]]
) -> None:
    first = list(range(1, 2 * BLOCK + 8))
    random.Random(7).shuffle(first)  # noqa: S311 -- an order, no secret
    assert export.load(lines(first), "one", AT) == len(first)
    assert (export.current(), export.ids().tolist()) == (Loaded(1, len(first), "one", AT), sorted(first))
    assert blocks(database) == {1: 3}

    second = [*range(10, 30), 12]
    assert export.load(lines(second), "two", AT + timedelta(days=1)) == 21
    assert export.current() == Loaded(2, 21, "two", AT + timedelta(days=1))
    assert export.ids().tolist() == list(range(10, 30))
    assert blocks(database) == {2: 1}


def test_lines_are_kept_as_they_are(export: IdExport, database: Database[dict[str, Any]]) -> None:
    export.load([line(3, video=True, homepage=None), b"\n", line(2**63 - 1, adult=True)], "some", AT)
    [block] = database["ids"].find({"load": 1, "_id": {"$ne": "current"}})
    assert block["movies"] == [
        json.loads(line(3, video=True, homepage=None)),
        json.loads(line(2**63 - 1, adult=True)),
    ]
    assert [ids.tolist() for ids in export.flagged("video", "adult")] == [[3], [2**63 - 1]]


@pytest.mark.parametrize("oddity", ["half a \ud83d character", 2**80], ids=["surrogate", "large number"])
def test_what_mongodb_cannot_hold_costs_no_id_and_no_flag(export: IdExport, oddity: object) -> None:
    assert export.load([line(1), line(2, original_title=oddity, adult=True)], "odd", AT) == 2
    assert export.ids().tolist() == [1, 2]
    assert export.flagged("adult")[0].tolist() == [2]


@pytest.mark.parametrize("last", [b"no line of TMDB's\n", line(0)])
def test_a_bad_line_is_named_and_nothing_of_the_earlier_list_is_lost(
    export: IdExport, database: Database[dict[str, Any]], last: bytes
) -> None:
    export.load(lines([1, 2]), "good", AT)
    with pytest.raises(UsageError, match=r"\Abad, line 2,501: "):
        export.load([*lines(range(1, 2_501)), last], "bad", AT)
    assert export.ids().tolist() == [1, 2]
    assert blocks(database) == {1: 1}


def test_an_empty_list_is_refused(export: IdExport) -> None:
    export.load(lines([1]), "good", AT)
    for nothing in ([], [b"\n", b" \n"]):
        with pytest.raises(UsageError, match="empty: expected a JSON object with an id on each line"):
            export.load(nothing, "empty", AT)
    assert export.ids().tolist() == [1]


def test_a_load_that_dies_changes_nothing_and_the_next_removes_what_it_left(
    export: IdExport, database: Database[dict[str, Any]]
) -> None:
    def dying() -> Iterator[bytes]:
        yield from lines(range(1, 2 * BLOCK + 2))
        raise MemoryError

    export.load(lines([5, 6]), "good", AT)
    with pytest.raises(MemoryError):
        export.load(dying(), "dying", AT)
    assert blocks(database) == {1: 1, 2: 2}
    assert export.ids().tolist() == [5, 6]

    export.load(lines([7]), "next", AT)
    assert (export.ids().tolist(), blocks(database)) == ([7], {3: 1})


def test_of_two_loads_the_one_that_began_later_counts_though_it_ends_first(
    export: IdExport, database: Database[dict[str, Any]]
) -> None:
    def overtaken() -> Iterator[bytes]:
        yield from lines(range(1, BLOCK + 2))
        assert export.load(lines([7, 8]), "later", AT) == 2
        yield line(BLOCK + 2)

    with pytest.raises(UsageError, match="earlier: another load began later and is done"):
        export.load(overtaken(), "earlier", AT)
    assert (export.ids().tolist(), blocks(database)) == ([7, 8], {2: 1})


def test_of_two_loads_the_one_that_ends_first_spares_the_other(
    export: IdExport, database: Database[dict[str, Any]]
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waiting() -> Iterator[bytes]:
        begun.set()
        assert go_on.wait(60)
        yield line(1)

    earlier = threading.Thread(target=lambda: export.load(waiting(), "earlier", AT))
    earlier.start()
    assert begun.wait(60)

    def later() -> Iterator[bytes]:
        yield from lines(range(1, BLOCK + 2))
        go_on.set()
        earlier.join()
        assert export.ids().tolist() == [1]
        yield line(BLOCK + 2)

    export.load(later(), "later", AT)
    assert export.ids().tolist() == list(range(1, BLOCK + 3))
    assert blocks(database) == {2: 2}


def test_a_reader_sees_one_whole_list_though_it_is_replaced_meanwhile(
    database: Database[dict[str, Any]],
) -> None:
    class Replaced(IdExport):
        replaced = 0

        def _blocks(self, load: int, *flags: str) -> Iterator[list[dict[str, Any]]]:
            if not self.replaced:
                self.replaced = load
                IdExport(Mongo(database, own_now)).load(lines([4, 5, 6]), "new", AT)
            return super()._blocks(load, *flags)

    export = Replaced(database)
    export.load(lines([1, 2]), "old", AT)
    assert (export.ids().tolist(), export.replaced) == ([4, 5, 6], 1)


def test_a_list_with_holes_is_no_list(export: IdExport, database: Database[dict[str, Any]]) -> None:
    export.load(lines(range(1, BLOCK + 2)), NAME, AT)
    database["ids"].delete_one({"_id": f"{1:010}:{0:010}"})
    with pytest.raises(UsageError, match=rf"of {NAME}, 0 of 1,001 lines are left"):
        export.ids()


def test_a_load_takes_the_memory_of_a_block_however_long_the_list_is(export: IdExport) -> None:
    """40,000 lines as objects would take 28 MB."""
    export.load(lines(range(1, 2_000)), "warm", AT)
    tracemalloc.start()
    try:
        export.load(lines(range(1, 40_001)), "long", AT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def test_no_mongodb_is_said_in_one_line() -> None:
    client: pymongo.MongoClient[dict[str, Any]]
    address = f"mongodb://127.0.0.1:{free_port()}"
    with pymongo.MongoClient(address, serverSelectionTimeoutMS=200) as client:
        export = IdExport(client["nowhere"])
        for ask in (export.current, export.ids, lambda: export.load(lines([1]), NAME, AT)):
            with pytest.raises(MongoUnavailable, match="MongoDB: "):
                ask()


# Where lines come from


def lines_of(source: str) -> list[bytes]:
    with opened(source) as found:
        return list(found)


@pytest.mark.parametrize("name", ["ids.json.gz", "ids.json", "ids.jsonl", "ids"])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_file_is_read_by_its_bytes_whatever_its_name(tmp_path: Path, name: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(b"".join(lines(range(1, 4_000)))))
    assert lines_of(str(tmp_path / name)) == list(lines(range(1, 4_000)))


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_gzip_cut_short_or_damaged_is_refused_with_the_line(tmp_path: Path, part: float) -> None:
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


def test_no_file_is_said(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.gz", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"{path}: cannot be read: {words}"):
            lines_of(str(path))


class FilesHost(ThreadingHTTPServer):
    """Serves a list in the ways of its handler, and keeps the headers that it was asked with."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = b"".join(lines(range(1, 9_000)))
        self.asked: list[dict[str, str]] = []

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: FilesHost

    def do_GET(self) -> None:
        self.server.asked.append({name.lower(): value for name, value in self.headers.items()})
        content, path = self.server.content, self.path.partition("?")[0]
        if path == "/moved":
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
        """Say nothing."""


@pytest.fixture
def files_host() -> Iterator[FilesHost]:
    with FilesHost() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/plain", "/gzip", "/encoded", "/moved"])
def test_an_address_is_read_as_it_comes_and_learns_no_key(
    files_host: FilesHost, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("TMDB_TOKEN", "a-token-that-stays-here")
    monkeypatch.setenv("TMDB_API_KEY", "a-key-that-stays-here")
    assert lines_of(files_host.address(path)) == list(lines(range(1, 9_000)))
    assert "stays-here" not in str(files_host.asked)
    assert all({"authorization", "cookie"}.isdisjoint(headers) for headers in files_host.asked)


def test_what_an_address_may_not_do_is_one_line_without_its_query(files_host: FilesHost) -> None:
    for path, words in (
        ("/none?secret", r"/none: expected the list, got HTTP 404"),
        ("/cut?secret", r"/cut, line [\d,]+: the download broke off \((IncompleteRead|ProtocolError)\)"),
    ):
        with pytest.raises(UsageError, match=words) as told:
            lines_of(files_host.address(path))
        assert "secret" not in str(told.value)
    with pytest.raises(UsageError, match=r"/a: cannot be fetched: ConnectionError\Z"):
        lines_of(f"http://127.0.0.1:{free_port()}/a?secret")


def test_the_emulators_list_is_its_catalogue(export: IdExport) -> None:
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
        with opened(address) as found:
            assert export.load(found, NAME, AT) == len(listed) == 5_000
    assert listed[-1] == odd
    assert list(listed[0]) == ["adult", "id", "original_title", "popularity", "video"]
    assert export.ids().tolist() == sorted(movie["id"] for movie in listed)
    assert 900_001 in export.flagged("video")[0]


# The audit


def put(database: Database[dict[str, Any]], ids: Iterable[int], first_seen: datetime, **meta: object) -> None:
    database["movies"].insert_many([{"_id": i, "_meta": {"first_seen": first_seen, **meta}} for i in ids])


def test_missing_gone_and_neither(export: IdExport, database: Database[dict[str, Any]]) -> None:
    storage = Storage(database)
    for ask in (lambda: audit(storage, export), lambda: list(missing_ids(storage, export))):
        with pytest.raises(UsageError, match=r"no list of ids is loaded: .*`reelhaul ids load FILE`"):
            ask()
    listed = [line(1), line(2), line(3, adult=True), line(4, video=True), line(5, adult=True), line(9)]
    export.load(listed, NAME, AT)
    day = datetime(2026, 5, 15, tzinfo=UTC)
    put(database, [2, 5], day - timedelta(days=9))
    put(database, [6, 10], day - timedelta(seconds=1))
    put(database, [7], day - timedelta(days=9), gone_at=day)
    put(database, [8], day)
    steps: list[int] = []
    found = audit(storage, export, lambda: steps.append(1))
    assert found.missing.tolist() == [1, 3, 4, 9] == list(missing_ids(storage, export))
    assert (found.missing_adult, found.missing_video) == (1, 1)
    assert (found.gone.tolist(), found.newer) == ([6, 10], 1)
    assert found.stored == len(steps) == 6
