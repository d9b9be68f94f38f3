"""How far a backfill is, by genre, year and cell, computed from what is stored."""

from dataclasses import dataclass
from typing import Any

from producer.coverage import Coverage, CoverageIndex
from producer.enqueue import Backfill, all_backfills
from worker.keys import Cell
from worker.settings import settings
from worker.storage.database import Storage


@dataclass
class Progress:
    """One backfill's coverage: in total, by genre id, by year and by cell."""

    backfill: Backfill
    total: Coverage
    by_genre: dict[int, Coverage]
    by_year: dict[str, Coverage]
    by_cell: dict[Cell, Coverage]
    movies: int

    def left_s(self, per_s: float) -> float:
        """Seconds until the rest is fetched at `per_s` requests per second."""
        return (self.total.expected - self.total.stored - self.total.quarantined) / per_s

    def as_dict(self, per_s: float | None = None) -> dict[str, Any]:
        """For JSON; `per_s`: expected requests per second, None when unknown."""
        genres = self.backfill.genres
        return {
            "backfill": self.backfill.id,
            "requested_at": self.backfill.requested_at.isoformat(),
            **self.total.as_dict(),
            "movies": self.movies,
            "left_s": round(self.left_s(per_s), 1) if per_s else None,
            "by_genre": {genres[genre_id]: part.as_dict() for genre_id, part in self.by_genre.items()},
            "by_year": {year: part.as_dict() for year, part in self.by_year.items()},
        }


def measure(storage: Storage, backfill: Backfill) -> Progress:
    """The backfill's progress now."""
    moment = backfill.fresh_after
    return _progress(backfill, CoverageIndex.read(storage, [moment])[moment], storage.movies.count())


def measure_all(storage: Storage) -> list[Progress]:
    """Progress of every backfill, the latest first; MongoDB is read once for all."""
    backfills = all_backfills(storage)
    if not backfills:
        return []
    # What has passed the retention no longer counts, even for a backfill that accepts any age.
    retained_since = storage.mongo.now() - settings().reelhaul_retention
    moments = [max(backfill.fresh_after or retained_since, retained_since) for backfill in backfills]
    indexes = CoverageIndex.read(storage, moments)
    movies = storage.movies.count()
    return [
        _progress(backfill, indexes[moment], movies)
        for backfill, moment in zip(backfills, moments, strict=True)
    ]


def _progress(backfill: Backfill, index: CoverageIndex, movies: int) -> Progress:
    progress = Progress(
        backfill,
        Coverage(),
        {genre_id: Coverage() for genre_id in backfill.genres},
        {str(year): Coverage() for year in sorted(backfill.years)},
        {},
        movies,
    )
    for cell in backfill.cells():
        part = index.coverage(cell)
        progress.total.add(part)
        progress.by_genre[cell.genre_id].add(part)
        progress.by_year[cell.window].add(part)
        progress.by_cell[cell] = part
    return progress
