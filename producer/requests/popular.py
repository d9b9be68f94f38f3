"""The most popular movies: the first pages of TMDB's list, whose records keep the order."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from producer.coverage import CoverageIndex
from producer.requests.request import Progress, Request
from worker.keys import Fetch, Key, PopularList
from worker.storage.database import Storage


@dataclass(frozen=True)
class Popular(Request):
    """The first `pages` pages, none older than `max_age` at `requested_at`."""

    kind = "popular"
    pages: int
    max_age: timedelta
    requested_at: datetime
    schedule_entry: str = ""

    @property
    def fresh_after(self) -> datetime:
        return self.requested_at - self.max_age

    @property
    def title(self) -> str:
        return self._title(f"pages 1 to {self.pages}")

    def missing(self, storage: Storage) -> Iterator[Fetch[Key]]:
        for key in storage.pages.missing([PopularList(self.pages)], self.fresh_after):
            yield Fetch(key, self.fresh_after, (self.pages,))

    def progress(self, storage: Storage, index: CoverageIndex) -> Progress:  # noqa: ARG002 -- as in Request
        return Progress(self, index.coverage(PopularList(self.pages)))
