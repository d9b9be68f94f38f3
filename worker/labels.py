"""Labels for people: `Drama 1999, page 3 of 37 (18:1999:3)`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from worker.errors import MongoUnavailable
from worker.keys import ANY_GENRE, ChangesKey, Fetch, Key, MovieKey, PageKey, PopularKey
from worker.storage.database import Storage


def label(key: Key, genres: Mapping[int, str], total_pages: int | None = None) -> str:
    """The label of a page or movie; it ends with the id, so that it can be searched for."""
    match key:
        case MovieKey():
            return key.id
        case PopularKey():
            return f"Popular, page {key.page} ({key.id})"
        case ChangesKey():
            return f"Changes of {key.day}, page {key.page} ({key.id})"
    genre = "Any genre" if key.genre_id == ANY_GENRE else genres.get(key.genre_id, f"genre {key.genre_id}")
    if not isinstance(key, PageKey):
        return f"{genre} {key.window}, totals ({key.id})"
    of = f" of {len(key.cell.pages(total_pages))}" if total_pages else ""
    return f"{genre} {key.window}, page {key.page}{of} ({key.id})"


class Labels:
    """Labels made from what is stored; safe for threads.

    Genres are read once, and totals once for consecutive pages of a cell. While MongoDB is unavailable,
    labels say less.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._genres: dict[int, str] = {}

    def of(self, fetches: Iterable[Fetch[Key]]) -> Iterator[tuple[Fetch[Key], str]]:
        """Each fetch with its key's label."""
        cell, total = None, None
        genres = self._known_genres()  # once: while none are stored, each call is a query
        for fetch in fetches:
            key = fetch.key
            if isinstance(key, PageKey) and key.page > 1 and key.cell != cell:
                cell, total = key.cell, self._total(key.cell.page(1))
            is_known = isinstance(key, PageKey) and key.cell == cell
            yield fetch, label(key, genres, total if is_known else None)

    def _known_genres(self) -> Mapping[int, str]:
        if not self._genres:
            with suppress(MongoUnavailable):
                self._genres = self._storage.genres.names()
        return self._genres

    def _total(self, first: PageKey) -> int | None:
        with suppress(MongoUnavailable):
            totals = self._storage.pages.totals(first)
            return totals.pages if totals else None
        return None
