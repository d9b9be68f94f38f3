"""TMDB's change feed, as far as its pages are stored: which movies changed, and which are to be fetched.

The feed lists ids by day, without times. A movie that is listed for a day must be fetched after the day; one
listed for today is fetched after it was first listed, and once more when today is over. So a movie is fetched
at most twice for a day, and never without its last change.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from worker.keys import MAX_PAGE, ChangesKey, MovieKey
from worker.records import Page
from worker.storage.documents import log_unreadable, total_pages, with_keys
from worker.storage.failures import FailureStore
from worker.storage.mongo import EPOCH, Document, Mongo, translate_errors
from worker.storage.movies import MovieStore
from worker.storage.pages import PageStore

_DAY = timedelta(days=1)


class Scope(NamedTuple):
    """Which changed movies are to be fetched."""

    days: tuple[str, ...]
    #: Movies listed for a day that is not over must be fetched since then, whatever was fetched before.
    again_since: datetime | None
    #: Also movies that are not stored.
    new: bool


class Changed(NamedTuple):
    """The movies in a scope: how many, and which of them lack a fetch since when, or failed."""

    movies: int
    lacking: dict[int, datetime]
    quarantined: int


class ChangeStore:
    """The pages of the change feed. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo, pages: PageStore, movies: MovieStore, failures: FailureStore) -> None:
        self._mongo, self._pages, self._movies, self._failures = mongo, pages, movies, failures
        self._records = mongo.journalled["pages"]

    def save(self, key: ChangesKey, page: Page) -> None:
        """Save the page's record and, for each movie on it, when it was first listed for a day not over."""
        first_listed: Document = {}
        if page.fetched_at < end_of(key.day):
            first_listed = {f"first_listed.{row['id']}": page.fetched_at for row in page.results}
        self._pages.save_record(key, page, first_listed)

    def listed(self, key: ChangesKey) -> list[int]:
        """The ids on the stored page; none when it is not stored."""
        with translate_errors():
            record = self._records.find_one({"_id": key.id}, {"movie_ids": 1})
        return record.get("movie_ids", []) if record else []

    def changed(self, scope: Scope, only: Collection[int] | None = None) -> Changed:
        """What is listed for the days on the stored pages; of the movies in `only`, if given."""
        needed, latest = dict[int, datetime](), self._mongo.latest()
        for day in scope.days:
            for id_, moment in needed_since(day, self._of(day, day), scope.again_since).items():
                if (only is None or id_ in only) and moment <= latest:  # else its clock was ahead
                    needed[id_] = max(moment, needed.get(id_, moment))
        fetched = self._movies.times(needed)
        if not scope.new:
            needed = {id_: moment for id_, moment in needed.items() if id_ in fetched}
        late = {id_: moment for id_, moment in needed.items() if fetched.get(id_, EPOCH) < moment}
        gone = self._pages.times(MovieKey(id_).id for id_ in late)
        failed = self._failures.times(MovieKey(id_).id for id_ in late)

        def since(times: Mapping[str, datetime], id_: int) -> bool:
            return times.get(MovieKey(id_).id, EPOCH) >= late[id_]

        lacking = {id_: at for id_, at in late.items() if not since(gone, id_) and not since(failed, id_)}
        quarantined = sum(since(failed, id_) for id_ in late)
        return Changed(len(needed), lacking, quarantined)

    def first_unread(self, first: date, today: date) -> date:
        """The first day, from `first` or an earlier one that is stored, that was not read to its end."""
        by_day: defaultdict[date, dict[int, Document]] = defaultdict(dict)
        for key, record in self._of("", "~"):
            by_day[key.changed_on][key.page] = record
        day = min([first, *by_day])
        while day < today and _is_read(f"{day}", by_day[day]):
            day += _DAY
        return day

    def forget(self, before: date) -> None:
        """Delete the pages of days before that one."""
        with translate_errors():
            self._records.delete_many({"_id": {"$gte": "changes:", "$lt": f"changes:{before}"}})

    def _of(self, first: str, last: str) -> Iterator[tuple[ChangesKey, Document]]:
        """The records of the days from `first` to `last`, both included."""
        query: Document = {"_id": {"$gte": f"changes:{first}", "$lt": f"changes:{last};"}}
        query["fetched_at"] = self._mongo.since(EPOCH)
        fields = {"total_pages": 1, "movie_ids": 1, "fetched_at": 1, "first_listed": 1}
        with translate_errors():
            for key, record in with_keys(self._records.find(query, fields)):
                if isinstance(key, ChangesKey) and _is_readable(record):
                    yield key, record
                elif isinstance(key, ChangesKey):
                    log_unreadable("pages", key.id)


def needed_since(
    day: str, records: Iterable[tuple[ChangesKey, Document]], again_since: datetime | None
) -> dict[int, datetime]:
    """Since when each movie listed on these pages of the day must have been fetched."""
    end, needed = end_of(day), dict[int, datetime]()
    for _, record in records:
        if record["fetched_at"] >= end:
            needed.update(dict.fromkeys(record.get("movie_ids", ()), end))
            continue
        for text, first_listed in record.get("first_listed", {}).items():
            listed = again_since or first_listed
            known = needed.get(int(text), listed)
            needed[int(text)] = known if known == end else min(known, listed)
    return needed


def end_of(day: str) -> datetime:
    """Midnight after the day."""
    return _midnight(day) + _DAY


def _is_readable(record: Document) -> bool:
    """Whether its lists hold what ChangeStore.save wrote."""
    ids, first_listed = record.get("movie_ids", []), record.get("first_listed", {})
    return (
        isinstance(ids, list)
        and all(isinstance(id_, int) for id_ in ids)
        and isinstance(first_listed, dict)
        and all(id_.isdecimal() and isinstance(at, datetime) for id_, at in first_listed.items())
    )


def _is_read(day: str, records: Mapping[int, Document]) -> bool:
    """Whether every page of the day was requested after the day."""
    first = records.get(1)
    pages = range(1, min(max(total_pages(first) or 1, 1), MAX_PAGE) + 1) if first else ()
    end = end_of(day)
    return bool(pages) and all(number in records and records[number]["fetched_at"] >= end for number in pages)


def _midnight(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
