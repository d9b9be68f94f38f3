"""The daily list of ids: loaded whole or not at all, and read whole."""

import json
import random
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from sandbox.embedded import free_port
from tests.support.id_list import line, lines
from worker.errors import MongoUnavailable, UsageError
from worker.storage.database import Storage
from worker.storage.id_export import BLOCK, IdExport, Loaded

AT = datetime(2026, 5, 16, 9, tzinfo=UTC)
NAME = "movie_ids_05_15_2026.json.gz"


@pytest.fixture
def export(storage: Storage) -> IdExport:
    return storage.id_export


def blocks(database: Database[dict[str, Any]]) -> dict[int, int]:
    """How many blocks of each load are stored."""
    found: dict[int, int] = {}
    for block in database["ids"].find({"movies": {"$type": "array"}}, {"load": 1}):
        found[block["load"]] = found.get(block["load"], 0) + 1
    return found


def test_nothing_before_the_first_load(export: IdExport) -> None:
    assert export.current() is None
    assert [ids.tolist() for ids in (export.ids(), *export.flagged("adult", "video"))] == [[], [], []]


def test_a_load_replaces_the_one_before(export: IdExport, database: Database[dict[str, Any]]) -> None:
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


def test_lines_are_stored_as_they_are(export: IdExport, database: Database[dict[str, Any]]) -> None:
    export.load([line(3, video=True, homepage=None), b"\n", line(2**63 - 1, adult=True)], "some", AT)
    [block] = database["ids"].find({"load": 1, "_id": {"$ne": "current"}})
    assert block["movies"] == [
        json.loads(line(3, video=True, homepage=None)),
        json.loads(line(2**63 - 1, adult=True)),
    ]
    assert [ids.tolist() for ids in export.flagged("video", "adult")] == [[3], [2**63 - 1]]


@pytest.mark.parametrize("oddity", ["half a \ud83d character", 2**80], ids=["surrogate", "large number"])
def test_an_unstorable_line_keeps_its_id_and_flags(export: IdExport, oddity: object) -> None:
    assert export.load([line(1), line(2, original_title=oddity, adult=True)], "odd", AT) == 2
    assert export.ids().tolist() == [1, 2]
    assert export.flagged("adult")[0].tolist() == [2]


@pytest.mark.parametrize("last", [b"not a line of TMDB's\n", line(0)])
def test_a_bad_line_is_named_and_the_earlier_list_is_kept(
    export: IdExport, database: Database[dict[str, Any]], last: bytes
) -> None:
    export.load(lines([1, 2]), "good", AT)
    with pytest.raises(UsageError, match=r"\Abad, line 2,501: "):
        export.load([*lines(range(1, 2_501)), last], "bad", AT)
    assert export.ids().tolist() == [1, 2]
    assert blocks(database) == {1: 1}


def test_an_empty_list_is_rejected(export: IdExport) -> None:
    export.load(lines([1]), "good", AT)
    for nothing in ([], [b"\n", b" \n"]):
        with pytest.raises(UsageError, match="empty: expected a JSON object with an id on each line"):
            export.load(nothing, "empty", AT)
    assert export.ids().tolist() == [1]


def test_a_load_that_fails_changes_nothing_and_the_next_one_cleans_up(
    export: IdExport, database: Database[dict[str, Any]]
) -> None:
    def failing() -> Iterator[bytes]:
        yield from lines(range(1, 2 * BLOCK + 2))
        raise MemoryError

    export.load(lines([5, 6]), "good", AT)
    with pytest.raises(MemoryError):
        export.load(failing(), "failing", AT)
    assert blocks(database) == {1: 1, 2: 2}
    assert export.ids().tolist() == [5, 6]

    export.load(lines([7]), "next", AT)
    assert (export.ids().tolist(), blocks(database)) == ([7], {3: 1})


def test_a_load_overtaken_by_a_later_one_is_rejected(
    export: IdExport, database: Database[dict[str, Any]]
) -> None:
    def overtaken() -> Iterator[bytes]:
        yield from lines(range(1, BLOCK + 2))
        assert export.load(lines([7, 8]), "later", AT) == 2
        yield line(BLOCK + 2)

    with pytest.raises(UsageError, match="earlier: a load that began later has finished"):
        export.load(overtaken(), "earlier", AT)
    assert (export.ids().tolist(), blocks(database)) == ([7, 8], {2: 1})


def test_a_load_keeps_the_blocks_of_a_later_one_that_is_running(
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


def test_a_reader_sees_one_whole_list_when_it_is_replaced_meanwhile(storage: Storage) -> None:
    class Replaced(IdExport):
        replaced = 0

        def _blocks(self, load: int, *flags: str) -> Iterator[list[dict[str, Any]]]:
            if not self.replaced:
                self.replaced = load
                storage.id_export.load(lines([4, 5, 6]), "new", AT)
            return super()._blocks(load, *flags)

    export = Replaced(storage.mongo)
    export.load(lines([1, 2]), "old", AT)
    assert (export.ids().tolist(), export.replaced) == ([4, 5, 6], 1)


def test_a_list_with_missing_blocks_is_an_error(export: IdExport, database: Database[dict[str, Any]]) -> None:
    export.load(lines(range(1, BLOCK + 2)), NAME, AT)
    database["ids"].delete_one({"_id": f"{1:010}:{0:010}"})
    with pytest.raises(UsageError, match=rf"{NAME}: only 0 of 1,001 lines are left"):
        export.ids()


def test_a_load_takes_the_memory_of_a_few_blocks(export: IdExport) -> None:
    """All 40,000 lines as objects would take 28 MB."""
    export.load(lines(range(1, 2_000)), "warm", AT)
    tracemalloc.start()
    try:
        export.load(lines(range(1, 40_001)), "long", AT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def test_an_unavailable_server_is_mongo_unavailable() -> None:
    client: pymongo.MongoClient[dict[str, Any]]
    address = f"mongodb://127.0.0.1:{free_port()}"
    with pymongo.MongoClient(address, serverSelectionTimeoutMS=200) as client:
        export = Storage(client["nowhere"]).id_export
        for ask in (export.current, export.ids, lambda: export.load(lines([1]), NAME, AT)):
            with pytest.raises(MongoUnavailable, match="MongoDB: "):
                ask()
