"""Labels for people, of pages: `Drama 1999, page 3 of 37 (18:1999:3)`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from worker.errors import MongoUnavailable
from worker.keys import ANY_GENRE, MAX_PAGE, Cell, PageKey
from worker.storage.database import Storage


def label(key: PageKey, genres: Mapping[int, str], total_pages: int | None = None) -> str:
    """The label of a page; it ends with the id, so that it can be searched for."""
    genre = "Any genre" if key.genre_id == ANY_GENRE else genres.get(key.genre_id, f"genre {key.genre_id}")
    of = f" of {min(total_pages, MAX_PAGE)}" if total_pages else ""
    return f"{genre} {key.window}, page {key.page}{of} ({key.id})"


class PageLabels:
    """Labels made from what is stored; safe for threads.

    Genres are read once, and totals once for consecutive pages of a cell. While MongoDB is unavailable,
    labels say less.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._genres: dict[int, str] = {}

    def of(self, keys: Iterable[PageKey]) -> Iterator[tuple[PageKey, str]]:
        """Each key with its label."""
        cell, total = None, None
        for key in keys:
            if key.page > 1 and key.cell != cell:
                cell, total = key.cell, self._total(key.cell)
            yield key, label(key, self._known_genres(), total if key.cell == cell else None)

    def _known_genres(self) -> Mapping[int, str]:
        if not self._genres:
            with suppress(MongoUnavailable):
                self._genres = self._storage.genres.names()
        return self._genres

    def _total(self, cell: Cell) -> int | None:
        with suppress(MongoUnavailable):
            totals = self._storage.pages.totals(cell)
            return totals.pages if totals else None
        return None
