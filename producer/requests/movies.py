"""Requests for single movies: details, and what is about to pass the retention."""

from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from producer.audit import missing_ids
from producer.coverage import Coverage, CoverageIndex
from producer.requests.request import Progress, Request
from worker.errors import UsageError
from worker.keys import Cell, Fetch, Key, MovieKey
from worker.storage.database import Storage
from worker.storage.mongo import EPOCH


class MovieRequest(Request):
    """A request for single movies alone."""

    #: The option of the movies' task: None for list items, "" or "credits,keywords" for details.
    _parts: str | None = None

    def missing(self, storage: Storage) -> Iterator[Fetch[Key]]:
        for movie_id in self._lacking(storage)[0]:
            yield Fetch(MovieKey(movie_id), self.fresh_after, (self._parts,))

    def progress(self, storage: Storage, index: CoverageIndex) -> Progress:  # noqa: ARG002 -- as in Request
        lacking, quarantined = self._lacking(storage)
        planned = max(self._planned(storage), len(lacking) + quarantined)
        stored = planned - len(lacking) - quarantined
        return Progress(self, Coverage(), Coverage(planned=planned, stored=stored, quarantined=quarantined))

    def _lacking(self, storage: Storage) -> tuple[list[int], int]:
        """The movies that are missing; and how many are in quarantine instead.

        A failure from before the request does not count: whoever asks again wants another attempt.
        """
        ids = self._wanted(storage)
        failed = storage.failures.movies_failed_since(self.requested_at)
        gone = storage.pages.movies_gone_since(self.requested_at)
        return [id_ for id_ in ids if id_ not in failed and id_ not in gone], sum(
            id_ in failed for id_ in ids
        )

    @abstractmethod
    def _wanted(self, storage: Storage) -> Collection[int]:
        """The movies that lack what was asked for."""

    def _planned(self, storage: Storage) -> int:  # noqa: ARG002 -- as in Details
        """How many movies were asked for; 0 when only those are known that still lack it."""
        return 0


@dataclass(frozen=True)
class Details(MovieRequest):
    """Details, with the parts, of the movies that were stored when it was asked for.

    Or, if `listed`, of the movies on the loaded list of ids that are not stored.
    """

    kind = "details"
    parts: tuple[str, ...]
    #: None: details of any age will do.
    max_age: timedelta | None
    listed: bool
    requested_at: datetime
    schedule_entry: str = ""

    @property
    def fresh_after(self) -> datetime | None:
        if self.listed:
            return self.requested_at  # they are missing, whatever was stored of them
        return self.requested_at - self.max_age if self.max_age is not None else None

    @property
    def title(self) -> str:
        movies = "movies on TMDB's list of ids" if self.listed else "stored movies"
        return self._title(f"{movies}, with {', '.join(self.parts)}" if self.parts else movies)

    @property
    def _parts(self) -> str:  # type: ignore[override] # always a text here
        return ",".join(self.parts)

    def _wanted(self, storage: Storage) -> Collection[int]:
        if self.listed:
            with suppress(UsageError):  # no list, or a damaged one: `reelhaul verify --ids` says so
                return list(missing_ids(storage))
            return []
        return storage.movies.without_details(self.fresh_after or EPOCH, self.parts, self.requested_at)

    def _planned(self, storage: Storage) -> int:
        loaded = storage.id_export.current() if self.listed else None
        return loaded.movies if loaded else storage.movies.count_known_by(self.requested_at)


@dataclass(frozen=True)
class AgingMovies(MovieRequest):
    """Movies, with their details, that were last fetched before a moment and come on no page that is old.

    A page is old if it was fetched before `pages_before`: fetching it again fetches its movies.
    """

    kind = "aging"
    _not_in_id = ("movies_before", "pages_before")
    movies_before: datetime
    pages_before: datetime
    requested_at: datetime
    schedule_entry: str

    @property
    def fresh_after(self) -> datetime:
        return self.movies_before

    @property
    def title(self) -> str:
        return self._title(f"movies last fetched before {self.movies_before:%Y-%m-%d}")

    def _wanted(self, storage: Storage) -> Collection[int]:
        old = storage.pages.cells_fetched_before(self.pages_before)
        movies = storage.movies.fetched_before(self.movies_before)
        ids = dict.fromkeys(id_ for id_, page in movies if _cell_of(page) not in old)
        return ids | dict.fromkeys(storage.movies.details_fetched_before(self.movies_before))


def _cell_of(page: str) -> Cell | None:
    """The cell of the page on which a movie was seen; None when that was not a cell's page."""
    genre_id, _, rest = page.partition(":")
    return Cell(int(genre_id), rest.rpartition(":")[0]) if genre_id.isdecimal() else None
