"""All collections of one database."""

from collections.abc import Callable
from datetime import datetime

from pymongo.database import Database

from worker.storage.changes import ChangeStore
from worker.storage.failures import FailureStore
from worker.storage.genres import GenreStore
from worker.storage.id_export import IdExport
from worker.storage.mongo import Document, Mongo, own_now, translate_errors
from worker.storage.movies import MovieStore
from worker.storage.notifications import NotificationStore
from worker.storage.pages import PageStore
from worker.storage.requests import RequestStore
from worker.storage.schedule import ScheduleStore

#: Fields that hold when a document was last requested from TMDB. Pages come first: a page whose movies were
#: deleted must count as missing.
_TIMES = {
    "pages": "fetched_at",
    "movies": "_meta.fetched_at",
    "details": "_meta.fetched_at",
    "failures": "last_at",
}


class Storage:
    """A store for each collection; safe for threads. Every method raises MongoUnavailable.

    `now` is the fleet's clock.
    """

    def __init__(self, database: Database[Document], now: Callable[[], datetime] = own_now) -> None:
        self.mongo = mongo = Mongo(database, now)
        self.movies = MovieStore(mongo)
        self.requests = RequestStore(mongo)
        self.failures = FailureStore(mongo, self.requests)
        self.pages = PageStore(mongo, self.movies, self.failures, self.requests)
        self.changes = ChangeStore(mongo, self.pages, self.movies, self.failures)
        self.genres = GenreStore(mongo)
        self.schedule = ScheduleStore(mongo)
        self.notifications = NotificationStore(mongo)
        self.id_export = IdExport(mongo)

    def ping(self) -> None:
        """Make one round trip."""
        with translate_errors():
            self.mongo.database.command("ping")

    def count_expired(self, before: datetime) -> dict[str, int]:
        """How many documents of each collection were last requested before that moment."""
        with self.mongo.long_query():
            return {
                name: self.mongo.database[name].count_documents({field: {"$lt": before}})
                for name, field in _TIMES.items()
            }

    def delete_expired(self, before: datetime) -> dict[str, int]:
        """Delete what `count_expired` counts; returns how many of each collection."""
        with self.requests.reopening(), self.mongo.long_query():
            return {
                name: self.mongo.journalled[name].delete_many({field: {"$lt": before}}).deleted_count
                for name, field in _TIMES.items()
            }
