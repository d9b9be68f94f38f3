"""How far a backfill is: computed from what is stored, by genre and year."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from producer.coverage import Coverage, Ledger
from producer.enqueue import Backfill, known_backfills
from worker.store import Store


@dataclass
class Progress:
    """One backfill's coverage, in all, by genre id and by year."""

    backfill: Backfill
    total: Coverage
    by_genre: dict[int, Coverage]
    by_year: dict[str, Coverage]
    movies: int

    def as_dict(self) -> dict[str, Any]:
        genres = self.backfill.genres
        return {
            "backfill": self.backfill.id,
            "requested_at": self.backfill.requested_at.isoformat(),
            **self.total.as_dict(),
            "movies": self.movies,
            "by_genre": {genres[genre_id]: part.as_dict() for genre_id, part in self.by_genre.items()},
            "by_year": {year: part.as_dict() for year, part in self.by_year.items()},
        }


def measure(store: Store, backfill: Backfill) -> Progress:
    """The backfill's progress at this moment."""
    ledger = Ledger(store, backfill.fresh_after)
    progress = Progress(
        backfill,
        Coverage(),
        {genre_id: Coverage() for genre_id in backfill.genres},
        {str(year): Coverage() for year in sorted(backfill.years)},
        store.count_movies(),
    )
    for cell in backfill.cells():
        part = ledger.coverage(cell)
        progress.total.add(part)
        progress.by_genre[cell.genre_id].add(part)
        progress.by_year[cell.window].add(part)
    return progress


def measure_all(store: Store) -> list[Progress]:
    """Progress of every known backfill, the latest first."""
    return [measure(store, backfill) for backfill in known_backfills(store)]
