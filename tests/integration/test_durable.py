"""Commands to MongoDB: reads go to the primary, writes to a majority, whatever MONGO_URL says."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from worker.errors import MongoUnavailable, Rejected
from worker.keys import Cell, ChangesKey, Fetch, MovieKey
from worker.records import Details, Page
from worker.storage.changes import Scope
from worker.storage.database import Storage
from worker.storage.merge import ROUNDS
from worker.storage.movies import MovieStore
from worker.storage.page_counts import count_pages
from worker.storage.pages import PageStore

#: The worst options that MONGO_URL can have.
CARELESS = "readPreference=secondaryPreferred&readConcernLevel=majority&w=1&journal=false"
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CELL = Cell(18, "1999")
WRITES = {"insert", "update", "delete", "findAndModify"}
READS = {"find", "aggregate", "count", "distinct", "getMore"}
Document = dict[str, Any]


class Recorder(CommandListener):
    """Records every command as it was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Document]] = []

    def started(self, event: CommandStartedEvent) -> None:
        name = event.command_name
        self.sent.append((name, str(event.command[name]), dict(event.command)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass

    def writes(self) -> list[tuple[str, Document]]:
        """Collection and write concern of each write."""
        return [(what, command["writeConcern"]) for name, what, command in self.sent if name in WRITES]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def storage(mongo_url: str, recorder: Recorder) -> Iterator[Storage]:
    client: pymongo.MongoClient[Document]
    with pymongo.MongoClient(
        f"{mongo_url}?{CARELESS}", tz_aware=True, tzinfo=UTC, event_listeners=[recorder]
    ) as client:
        yield Storage(client.get_default_database())


def page(*movie_ids: int, at: datetime = AT, title: str = "") -> Page:
    return Page(1, [{"id": id_, "title": title} for id_ in movie_ids], 2, 40, at, f"{at}", b"")


def test_a_page_record_is_journalled_after_its_movies(storage: Storage, recorder: Recorder) -> None:
    storage.pages.save(CELL.page(1), page(1, 2))
    # Then with new movies, a changed one, and one that only gets a new fetched_at.
    storage.pages.save(CELL.page(1), page(1, at=AT + SECOND, title="changed"))
    storage.pages.save(CELL.page(1), page(1, 2, 3, at=AT + 2 * SECOND, title="changed"))
    journalled = [
        concern == {"w": "majority", "j": True} for what, concern in recorder.writes() if what == "pages"
    ]
    assert (len(journalled), all(journalled)) == (5, True)
    assert {concern["w"] for _, concern in recorder.writes()} == {"majority"}
    # Each save writes the movies, then the record. The second tries to insert: all of the first were new.
    assert "".join(what[0] for what, _ in recorder.writes()) == "mp" + "mmpp" + "mmmpp"


def test_movies_are_looked_up_before_they_are_inserted_once_some_were_stored(
    storage: Storage, recorder: Recorder
) -> None:
    def commands(number: int, *movie_ids: int) -> list[str]:
        del recorder.sent[:]
        storage.movies.save_page(f"18:1999:{number}", page(*movie_ids))
        return [name for name, what, _ in recorder.sent if what == "movies"]

    assert commands(1, 1, 2) == ["insert"]
    assert commands(2, 3, 4) == ["insert"]
    assert commands(3, 4, 5) == ["insert", "find", "update"]
    assert commands(4, 6, 7) == ["find", "insert"]
    assert commands(5, 8, 9) == ["insert"]


def test_every_write_waits_for_a_majority(storage: Storage, recorder: Recorder) -> None:
    movie = Details({"id": 603, "genres": []}, AT, b"")
    storage.movies.save_details(MovieKey(603), movie, whole=True)
    storage.movies.tombstone([603], AT + SECOND)
    storage.changes.save(ChangesKey(f"{AT:%Y-%m-%d}", 1), page(603))
    storage.changes.forget(AT.date())
    storage.pages.save_gone(MovieKey(604), AT)
    storage.requests.save("it", {"requested_at": AT})
    storage.requests.finish(storage.requests.all()[0], AT)
    storage.failures.add(Fetch(CELL.page(2)), Rejected("no"), AT)
    storage.failures.release(storage.failures.quarantined())
    storage.pages.save(CELL.page(1), page(1))
    storage.pages.drop_beyond(CELL, 1, AT + SECOND)
    storage.genres.save({18: "Drama"}, AT)
    storage.schedule.set_state("sweep", outcome="")
    storage.schedule.claim("recent", SECOND, AT)
    storage.delete_expired(AT + SECOND)
    storage.id_export.load([b'{"id": 1}'], "a test", AT)
    collections = {
        *("movies", "details", "ids", "pages", "failures", "requests", "genres", "schedule"),
    }
    assert {what for what, _ in recorder.writes()} == collections
    assert [(what, concern) for what, concern in recorder.writes() if concern["w"] != "majority"] == []
    must_not_be_lost = {"pages", "failures"}
    assert all(concern.get("j") for what, concern in recorder.writes() if what in must_not_be_lost)


def test_every_read_is_the_primarys(storage: Storage, recorder: Recorder) -> None:
    stores = [value for value in vars(storage).values() if type(value).__module__.startswith("worker.")]
    values = [value for store in stores for value in vars(store).values()]
    found = [value for value in values if isinstance(value, Collection)]
    assert {collection.name for collection in found} >= {"movies", "pages", "failures", "ids"}
    assert all(collection.read_preference == ReadPreference.PRIMARY for collection in found)
    storage.pages.save(CELL.page(1), page(1))
    storage.pages.save(CELL.page(1), page(1, at=AT + SECOND))
    list(storage.pages.missing([CELL], None))
    count_pages(storage.pages, [None, AT], storage.mongo.latest())
    storage.pages.is_fresh(CELL.page(1), AT)
    storage.failures.quarantined()
    list(storage.pages.each())
    storage.changes.first_unread(AT.date(), AT.date())
    storage.changes.changed(Scope((f"{AT:%Y-%m-%d}",), None, new=True))
    reads = [command for name, _, command in recorder.sent if name in READS]
    assert len(reads) > 10
    assert not any("$readPreference" in command for command in reads)
    # A read concern of "majority" lags too.
    assert {command["readConcern"]["level"] for command in reads if "readConcern" in command} == {"local"}


class Lagging:
    """A collection whose reads miss what was written, as a secondary's may."""

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
def test_compare_and_swap_gives_up_when_reads_lag(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    storage.pages.save(CELL.page(1), page(1))
    store: MovieStore | PageStore = getattr(storage, name)
    lagging = Lagging(store.collection, [])
    monkeypatch.setattr(store, "collection", lagging)
    # It reads page 1 too, for another reason.
    monkeypatch.setattr(PageStore, "_adds_missing", lambda *_: False)
    with pytest.raises(MongoUnavailable, match="what was read"):
        storage.pages.save(CELL.page(1), page(1, at=AT + SECOND, title="changed"))
    assert lagging.reads == ROUNDS
