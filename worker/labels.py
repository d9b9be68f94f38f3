"""What a page is called where a person reads it: `Drama 1999, page 3 of 37 (18:1999:3)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from worker.errors import StoreAway
from worker.keys import ANY_GENRE, MAX_PAGE, Cell, PageKey
from worker.storage.store import Store


def words(key: PageKey, genres: Mapping[int, str], total_pages: int | None = None) -> str:
    """The page in words, its id behind them so that it can be searched for."""
    genre = "Any genre" if key.genre_id == ANY_GENRE else genres.get(key.genre_id, f"genre {key.genre_id}")
    of = f" of {min(total_pages, MAX_PAGE)}" if total_pages else ""
    return f"{genre} {key.window}, page {key.page}{of} ({key.id})"


class Names:
    """Words for pages, from what is stored; safe for threads.

    Genres are read once, totals once for each cell in a row: no round trip a page. When MongoDB does
    not answer, the words say less.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._genres: dict[int, str] = {}

    def of(self, keys: Iterable[PageKey]) -> Iterator[tuple[PageKey, str]]:
        """Each key with its words."""
        cell, total = None, None
        for key in keys:
            if key.page > 1 and key.cell != cell:
                cell, total = key.cell, self._total(key.cell)
            yield key, words(key, self._known_genres(), total if key.cell == cell else None)

    def _known_genres(self) -> Mapping[int, str]:
        if not self._genres:
            with suppress(StoreAway):
                self._genres = self._store.named_genres()
        return self._genres

    def _total(self, cell: Cell) -> int | None:
        with suppress(StoreAway):
            totals = self._store.totals(cell)
            return totals.pages if totals else None
        return None
