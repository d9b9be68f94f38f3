"""Does the data need a refresh? Counts the pages that are too old or missing, without any request."""

from dataclasses import dataclass
from datetime import timedelta

from producer.coverage import CoverageIndex
from producer.enqueue import requested_backfills
from producer.plan import parse_genres, parse_years
from worker.clients import storage
from worker.durations import parse_duration
from worker.errors import UsageError
from worker.keys import ANY_GENRE, Cell
from worker.settings import settings
from worker.storage.selection import cells_to_read


@dataclass(frozen=True)
class Freshness:
    """How many pages of some cells are older than `max_age`."""

    max_age: timedelta
    cells: int
    #: Pages that the cells are known to have.
    pages: int
    #: Those to fetch: older than max_age, or missing.
    stale: int
    #: Those put into quarantine within max_age.
    quarantined: int
    #: Seconds that the stale pages take at the configured rate.
    takes_s: float

    @property
    def is_fresh(self) -> bool:
        """Whether no page is too old or missing."""
        return not self.stale


def freshness(
    max_age: timedelta | str | None = None, genres: str | None = None, years: str | None = None
) -> Freshness:
    """The freshness of everything that was requested, or of some genres and years.

    `max_age` is REELHAUL_RETENTION by default, and at most that. Raises UsageError when an argument is
    invalid or nothing was requested yet, MongoUnavailable.
    """
    retention = settings().reelhaul_retention
    if isinstance(max_age, str):
        max_age = parse_duration(max_age, "--max-age")
    max_age = retention if max_age is None else min(max_age, retention)
    cells = _requested_cells(genres, years)
    fresh_after = storage().mongo.now() - max_age
    indexes = CoverageIndex.read(storage(), [None, fresh_after])
    pages = fresh = quarantined = 0
    for cell in cells:
        ever, lately = indexes[None].coverage(cell), indexes[fresh_after].coverage(cell)
        pages += ever.planned
        fresh += min(lately.stored, ever.planned)
        quarantined += lately.quarantined
    stale = max(0, pages - fresh - quarantined)
    return Freshness(max_age, len(cells), pages, stale, quarantined, stale / settings().reelhaul_rate.per_s)


def _requested_cells(genres: str | None, years: str | None) -> list[Cell]:
    """The cells of every backfill that a person requested, or of these genres and years."""
    requested = requested_backfills(storage())
    names = {genre_id: name for backfill in requested for genre_id, name in backfill.genres.items()}
    cells = dict.fromkeys(cell for backfill in requested for cell in backfill.cells())
    if genres is None and years is None:
        if not requested:
            raise UsageError("nothing was requested yet: `reelhaul backfill --help`")
        return list(cells)
    known = {id_: name for id_, name in (storage().genres.names() | names).items() if id_ != ANY_GENRE}
    if not known and (genres is not None or not names):
        raise UsageError("no genres are known yet: `reelhaul genres` gets them from TMDB")
    requested_years = {year for backfill in requested for year in backfill.years}
    return cells_to_read(
        cells,
        parse_genres(genres, known) if genres is not None else list(names or known),
        parse_years(years) if years is not None else requested_years,
    )
