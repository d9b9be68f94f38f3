"""Compare stored pages with what TMDB says of them now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.records import Page
from worker.storage.documents import PageRecord
from worker.storage.mongo import Document
from worker.storage.movies import is_as_saved, stored_sha256
from worker.storage.raw import OURS

#: Fields that TMDB changes every day: that they differ says nothing about what is stored.
DAILY = frozenset({"popularity", "vote_average", "vote_count"})


@dataclass
class PageCheck:
    """What differs between a stored page and the page now; ids of movies."""

    page: str
    #: What TMDB states now, where it is not what was stored: `56 movies on 3 pages, stored 55 on 3`.
    totals: str = ""
    #: Why TMDB does not show the page any more.
    rejected: str = ""
    #: On the page now, but not as it was stored; and the other way round.
    more: list[int] = field(default_factory=list)
    lacks: list[int] = field(default_factory=list)
    #: On the page as it was stored, but not among the movies, unless TMDB said that they are gone.
    not_stored: list[int] = field(default_factory=list)
    #: Not what was saved: damaged, or edited by hand.
    damaged: list[int] = field(default_factory=list)
    #: The fields that differ, by movie.
    changed: dict[int, list[str]] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether anything does but what TMDB changes every day."""
        found = self.totals, self.rejected, self.more, self.lacks, self.not_stored, self.damaged
        return any(found) or any(not DAILY.issuperset(names) for names in self.changed.values())


def compare_page(record: PageRecord, stored: Mapping[int, Document], now: Page | None) -> PageCheck:
    """Compare a page record and its movies, `stored` by id, with the page as it is now; None: it is not."""
    on_page, check = set(record.movie_ids), PageCheck(record.key.id)
    check.not_stored = sorted(on_page - stored.keys())
    check.damaged = [id_ for id_, movie in stored.items() if not is_as_saved(movie, stored_sha256(movie))]
    if now is None:
        return check
    items = {item["id"]: item for item in now.results}
    check.more, check.lacks = sorted(items.keys() - on_page), sorted(on_page - items.keys())
    stated = (now.total_results, now.total_pages)
    known = (record.totals.results, record.totals.pages) if record.totals else None
    if stated != known:
        before = f"{known[0]:,} on {known[1]:,}" if known else "a record that cannot be read"
        check.totals = f"{stated[0]:,} movies on {stated[1]:,} pages, stored {before}"
    for id_ in items.keys() & stored.keys():
        if names := _differing(stored[id_], items[id_]):
            check.changed[id_] = names
    return check


def _differing(stored: Document, item: Mapping[str, Any]) -> list[str]:
    """Names of the fields that differ, or that only one of both has."""
    names = (stored.keys() | item.keys()) - OURS
    missing = object()
    return sorted(name for name in names if stored.get(name, missing) != item.get(name, missing))
