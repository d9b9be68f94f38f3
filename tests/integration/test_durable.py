"""What MongoDB is asked for: the primary's answer, a majority's word, whatever MONGO_URL says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from worker.errors import MongoUnavailable, Rejected
from worker.keys import Cell, MovieKey
from worker.records import Details, Page
from worker.storage.database import Storage
from worker.storage.id_export import IdExport
from worker.storage.merge import ROUNDS

#: The worst that an address can say.
CARELESS = "readPreference=secondaryPreferred&readConcernLevel=majority&w=1&journal=false"
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CELL = Cell(18, "1999")
WRITES = {"insert", "update", "delete", "findAndModify"}
READS = {"find", "aggregate", "count", "distinct", "getMore"}
Document = dict[str, Any]


class Ear(CommandListener):
    """Keeps every command as it was sent."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, Document]] = []

    def started(self, event: CommandStartedEvent) -> None:
        name = event.command_name
        self.heard.append((name, str(event.command[name]), dict(event.command)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass

    def writes(self) -> list[tuple[str, Document]]:
        """Collection and write concern of each write."""
        return [(what, command["writeConcern"]) for name, what, command in self.heard if name in WRITES]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def client(mongo_url: str, ear: Ear) -> Iterator[pymongo.MongoClient[Document]]:
    address = f"{mongo_url}?{CARELESS}"
    with pymongo.MongoClient[Document](address, tz_aware=True, tzinfo=UTC, event_listeners=[ear]) as client:
        yield client


@pytest.fixture
def storage(client: pymongo.MongoClient[Document]) -> Storage:
    return Storage(client.get_default_database())


@pytest.fixture
def movies(client: pymongo.MongoClient[Document]) -> Storage:
    return Storage(client.get_default_database())


@pytest.fixture
def ids(client: pymongo.MongoClient[Document]) -> IdExport:
    return IdExport(client.get_default_database())


def page(*movie_ids: int, at: datetime = AT, title: str = "") -> Page:
    return Page(1, [{"id": id_, "title": title} for id_ in movie_ids], 2, 40, at, f"{at}", b"")


def test_a_page_record_is_journalled_by_a_majority_that_has_its_movies(storage: Storage, ear: Ear) -> None:
    storage.pages.save(CELL.page(1), page(1, 2))
    # Again: some movies are new, one has changed, one is only touched.
    storage.pages.save(CELL.page(1), page(1, at=AT + SECOND, title="changed"))
    storage.pages.save(CELL.page(1), page(1, 2, 3, at=AT + 2 * SECOND, title="changed"))
    journalled = [
        concern == {"w": "majority", "j": True} for what, concern in ear.writes() if what == "pages"
    ]
    assert (len(journalled), all(journalled)) == (5, True)
    assert {concern["w"] for _, concern in ear.writes()} == {"majority"}
    # Of each save: the movies, then the record.
    assert "".join(what[0] for what, _ in ear.writes()) == "mp" + "mpp" + "mmmpp"


def test_every_write_waits_for_a_majority(storage: Storage, ids: IdExport, ear: Ear) -> None:
    movie = Details({"id": 603, "genres": []}, AT, b"")
    storage.movie_requests.add([603], AT, details=True)
    storage.movie_requests.add([603], AT + SECOND)
    storage.movies.save_details(MovieKey(603), movie, keep=True)
    storage.movies.tombstone([603], AT + SECOND)
    storage.change_feed.mark_handled([603], AT)
    storage.change_feed.set_read_to(AT)
    storage.change_feed.forget_handled(AT + SECOND)
    storage.movie_requests.remove(MovieKey(603))
    storage.backfills.save("it", {"requested_at": AT})
    storage.backfills.finish(storage.backfills.all()[0], AT)
    storage.failures.add(CELL.page(2), Rejected("no"), AT)
    storage.failures.release(storage.failures.quarantined())
    storage.pages.save(CELL.page(1), page(1))
    storage.pages.drop_beyond(CELL, 1, AT + SECOND)
    storage.genres.save({18: "Drama"}, AT)
    storage.schedule.set_state("sweep", outcome="")
    storage.schedule.advance_reading("sweep", {}, {}, AT)
    storage.schedule.claim("recent", SECOND, AT)
    storage.delete_expired(AT + SECOND)
    ids.load([b'{"id": 1}'], "a test", AT)
    collections = {
        *("movies", "details", "wanted", "demanded", "cursors", "ids"),
        *("pages", "failures", "backfills", "genres", "schedule"),
    }
    assert {what for what, _ in ear.writes()} == collections
    assert [(what, concern) for what, concern in ear.writes() if concern["w"] != "majority"] == []
    must_not_be_forgotten = {"pages", "failures", "cursors"}
    assert all(concern.get("j") for what, concern in ear.writes() if what in must_not_be_forgotten)


def collections_of(door: Storage | IdExport) -> list[Collection[Document]]:
    return [value for value in vars(door).values() if isinstance(value, Collection)]


def test_every_read_is_the_primarys(storage: Storage, ids: IdExport, ear: Ear) -> None:
    found = [*collections_of(storage), *collections_of(movies), *collections_of(ids)]
    assert len(found) == 6 + 7 + 1
    assert all(collection.read_preference == ReadPreference.PRIMARY for collection in found)
    storage.pages.save(CELL.page(1), page(1))
    storage.pages.save(CELL.page(1), page(1, at=AT + SECOND))
    list(storage.pages.missing([CELL], None))
    storage.pages.counts([None, AT])
    storage.pages.is_fresh(CELL.page(1), AT)
    storage.failures.quarantined()
    list(storage.pages.each())
    storage.movie_requests.get(603)
    storage.change_feed.read_to()
    reads = [command for name, _, command in ear.heard if name in READS]
    assert len(reads) > 10
    assert not any("$readPreference" in command for command in reads)
    # What a majority is known to have lags too.
    assert {command["readConcern"]["level"] for command in reads if "readConcern" in command} == {"local"}


class Lagging:
    """A collection whose reads do not see what was written, as a secondary's."""

    def __init__(self, collection: Collection[Document], seen: list[Document]) -> None:
        self._collection, self._seen = collection, seen
        self.reads = 0

    def find(self, *_: object) -> list[Document]:
        self.reads += 1
        return self._seen

    def find_one(self, *_: object) -> Document | None:
        self.reads += 1
        return self._seen[0] if self._seen else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["movies", "pages"])
def test_a_compare_and_swap_on_reads_that_lag_comes_to_an_end(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    storage.pages.save(CELL.page(1), page(1))
    lagging = Lagging(getattr(storage, name), [])
    monkeypatch.setattr(storage, name, lagging)
    # What page 1 said before is read for another reason.
    monkeypatch.setattr(Storage, "_opens", lambda *_: False)
    with pytest.raises(MongoUnavailable, match="what was read"):
        storage.pages.save(CELL.page(1), page(1, at=AT + SECOND, title="changed"))
    assert lagging.reads == ROUNDS
