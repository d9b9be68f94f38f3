"""Turn what a person asks for into cells. Pure: no clock, no network, no storage."""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

from worker.errors import UsageError
from worker.keys import Cell
from worker.windows import FIRST_YEAR, LAST_YEAR


class Way(StrEnum):
    """How a backfill divides the movies into cells."""

    #: A cell for each genre and year: a movie comes as often as it has genres.
    GENRE = "genre"
    #: A cell for each year: each movie comes once, and those without a genre too.
    DATE = "date"


#: The first of the years that are fetched unless a person says which.
DEFAULT_SINCE = 1990
_YEARS = re.compile(r"(\d{4})(?:(?:\.\.|-)(\d{4}))?")


def parse_years(text: str) -> list[int]:
    """The years in `"1999"`, `"1990..2025"`, also `"1990-2025"`, or a comma-separated list; ascending."""
    found: set[int] = set()
    for part in text.split(","):
        ends = _YEARS.fullmatch(part.strip())
        if not ends:
            raise UsageError(f"--years {text!r}: expected YEAR or FIRST..LAST, for instance 1990..2025")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if first > last:
            raise UsageError(f"--years {text!r}: {first} comes after {last}; write {last}..{first}")
        if first < FIRST_YEAR or last > LAST_YEAR:
            raise UsageError(f"--years {text!r}: expected years within {FIRST_YEAR}..{LAST_YEAR}")
        found.update(range(first, last + 1))
    return sorted(found)


def parse_genres(text: str, known: Mapping[int, str]) -> list[int]:
    """The genre ids in `"all"` or a comma-separated list of names (any case) and ids, in the order given."""
    if text.strip().lower() == "all":
        return list(known)
    by_name = {name.lower(): genre_id for genre_id, name in known.items()}
    found: dict[int, None] = {}
    for part in (part.strip() for part in text.split(",")):
        genre_id = by_name.get(part.lower(), int(part) if part.isdecimal() else -1)
        if genre_id not in known:
            names = ", ".join(f"{name} ({known_id})" for known_id, name in known.items())
            raise UsageError(f"--genres: unknown genre {part!r}; expected all or some of: {names}")
        found[genre_id] = None
    return list(found)


def plan_cells(genre_ids: Iterable[int], years: Iterable[int]) -> list[Cell]:
    """One cell for each genre and year: the latest year first, within a year in the order of the genres."""
    genre_ids = list(genre_ids)
    return [Cell(genre_id, str(year)) for year in sorted(years, reverse=True) for genre_id in genre_ids]
