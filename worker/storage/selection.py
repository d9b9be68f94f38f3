"""Which stored movies a reader wants, as a query. Pure: `reelhaul`, for analysts, needs none of the fleet."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.keys import ANY_GENRE, Cell

#: The index for queries by genre and date, made when they are first read that way.
READ_INDEX = [("genre_ids", 1), ("release_date", 1)]
#: Ids in one `$in`: what suits the embedded MongoDB (see worker.storage.mongo), and costs others little.
IDS = 100
_POPULAR = "popular:"
#: Selects the page records of the list of popular movies.
POPULAR_PAGES = {"_id": {"$gte": _POPULAR, "$lt": "popular;"}}


@dataclass(frozen=True)
class Selection:
    """Movies of any of the genres, of the years, requested from TMDB since then; None: all.

    Movies that are gone are never selected.
    """

    genre_ids: tuple[int, ...] | None = None
    years: tuple[int, ...] | None = None
    since: datetime | None = None

    @property
    def is_filter(self) -> bool:
        """Whether READ_INDEX helps."""
        return self.genre_ids is not None or self.years is not None

    def query(self, *, details: bool = False) -> dict[str, Any]:
        """The query of `movies`, or of `details`, which name their genres differently."""
        query: dict[str, Any] = {"_meta.gone_at": None}
        if self.genre_ids is not None and ANY_GENRE not in self.genre_ids:
            query["genres.id" if details else "genre_ids"] = _any_of(self.genre_ids)
        if self.years is not None:
            # Dates are text, `1999-05-01`, which a four-digit year precedes.
            spans = [{"$gte": f"{first:04}", "$lt": f"{last + 1:04}"} for first, last in spans_of(self.years)]
            query |= (
                {"release_date": spans[0]}
                if len(spans) == 1
                else {"$or": [{"release_date": s} for s in spans]}
            )
        if self.since is not None:
            query["_meta.fetched_at"] = {"$gte": self.since}
        return query


def _any_of(values: tuple[int, ...]) -> Any:
    """Select one of the values; the embedded MongoDB uses no index for `$in`."""
    return values[0] if len(values) == 1 else {"$in": list(values)}


#: Every movie that is not gone.
ALL = Selection()


def spans_of(years: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of consecutive years, ascending."""
    rest = sorted(set(years))
    while rest:
        length = next((n for n, year in enumerate(rest) if year != rest[0] + n), len(rest))
        yield rest[0], rest[length - 1]
        rest = rest[length:]


def cells_to_read(requested: Collection[Cell], genre_ids: Iterable[int], years: Iterable[int]) -> list[Cell]:
    """The cells whose pages list the movies of these genres and years.

    That is the whole year where a genre was not requested by itself, and the whole year was.
    """
    found: dict[Cell, None] = {}
    genre_ids = list(genre_ids)
    for year in years:
        whole = Cell(ANY_GENRE, str(year))
        for genre_id in genre_ids:
            cell = Cell(genre_id, str(year))
            found[whole if whole in requested and cell not in requested else cell] = None
    return list(found)


def popular_ids(records: Iterable[Mapping[str, Any]]) -> list[int]:
    """Ids by rank: TMDB's pages in order, each movie once, at its better rank.

    A record without page number or ids is left out, as in all readings of page records.
    """
    pages: dict[int, list[Any]] = {}
    for record in records:
        number, ids = record["_id"].removeprefix(_POPULAR), record.get("movie_ids")
        if number.isdecimal() and isinstance(ids, list):
            pages[int(number)] = ids
    return list(dict.fromkeys(id_ for _, ids in sorted(pages.items()) for id_ in ids if type(id_) is int))
