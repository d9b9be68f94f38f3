"""What all requests have in common: identity, what is missing, progress."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Self

from producer.coverage import Coverage, CoverageIndex
from producer.drift import Unchecked
from worker.keys import Cell, Fetch, Key
from worker.storage.database import Storage


class Request(ABC):
    """Something that was asked for, as stored in the collection `requests`. Each kind is a dataclass."""

    #: The word in the document that tells which kind it is.
    kind: ClassVar[str]
    #: Fields that may differ though the request is the same.
    _not_in_id: ClassVar[tuple[str, ...]] = ()
    requested_at: datetime
    #: Name of the schedule entry that asked for it; "" for a person.
    schedule_entry: str

    @property
    def id(self) -> str:
        """Eight hexadecimal digits; the same request has the same id at any time."""
        return hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def fresh_after(self) -> datetime | None:
        """Pages requested before this moment count as missing; None: a page of any age will do."""
        return self.requested_at

    @property
    @abstractmethod
    def title(self) -> str:
        """For a person: its name, id and what it covers."""

    @abstractmethod
    def missing(self, storage: Storage) -> Iterator[Fetch[Key]]:
        """What is missing, as far as is known; pages before single movies. Raises MongoUnavailable."""

    def fetches(self, missing: Iterator[Fetch[Key]], saved_as: str = "") -> Iterator[Fetch[Key]]:
        """What it lacks, as its own: once it is cancelled, workers drop these messages.

        `saved_as`: the id of its document, where that is not its own id.
        """
        return (fetch._replace(request=saved_as or self.id) for fetch in missing)

    @abstractmethod
    def progress(self, storage: Storage, index: CoverageIndex) -> "Progress":
        """How far it is; `index`: what is stored since `fresh_after`. Raises MongoUnavailable."""

    def to_document(self) -> dict[str, Any]:
        """Its document without `_id`: the kind and every field, as MongoDB holds it."""
        encoded = ((*_ENCODE.get(name, (name, _same)), value) for name, value in vars(self).items())
        return {"kind": self.kind, **{stored_as: encode(value) for stored_as, encode, value in encoded}}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The request in the document."""
        names = (field.name for field in fields(cls))  # type: ignore[arg-type] # every kind is a dataclass
        decoded = ((name, *_DECODE.get(name, (name, _same))) for name in names)
        return cls(**{name: decode(document[stored_as]) for name, stored_as, decode in decoded})

    def _identity(self) -> dict[str, Any]:
        """What makes it the same request, as JSON values."""
        return {**self.to_document(), **dict.fromkeys(("requested_at", *self._not_in_id))}

    def _title(self, covers: str) -> str:
        name = f"{self.schedule_entry} ({self.id})" if self.schedule_entry else f"{self.kind} {self.id}"
        return f"{name}: {covers}"


@dataclass
class Progress:
    """How far a request is: its pages and, where it has any, its single movies."""

    request: Request
    pages: Coverage
    movies: Coverage = field(default_factory=Coverage)
    #: Of a backfill: cells that are complete and were not compared with their totals yet.
    unchecked: list[Unchecked] = field(default_factory=list)
    #: Of a backfill that lacks nothing: movies that TMDB counts and shows on no page.
    unreachable: int = 0
    cancelled: bool = False
    #: Of a backfill: by genre's name, by year and by cell.
    by_genre: dict[str, Coverage] = field(default_factory=dict)
    by_year: dict[str, Coverage] = field(default_factory=dict)
    by_cell: dict[Cell, Coverage] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Known pages and movies that are still to be fetched."""
        return self.pages.missing + self.movies.missing

    @property
    def done(self) -> int:
        """Pages and movies that need no more requests."""
        return sum(part.stored + part.quarantined for part in (self.pages, self.movies))

    @property
    def expected(self) -> int:
        """Estimated pages and movies in total."""
        return self.pages.expected + self.movies.planned

    @property
    def quarantined(self) -> int:
        return self.pages.quarantined + self.movies.quarantined

    def left_s(self, per_s: float) -> float:
        """Seconds until the rest is fetched at `per_s` requests per second."""
        return (self.expected - self.done) / per_s

    def as_dict(self, per_s: float | None = None) -> dict[str, Any]:
        """For JSON; `per_s`: expected requests per second, None when unknown."""
        return {
            "kind": self.request.kind,
            "id": self.request.id,
            "schedule_entry": self.request.schedule_entry,
            "requested_at": self.request.requested_at.isoformat(),
            "cancelled": self.cancelled,
            **self.pages.as_dict(),
            "movies_planned": self.movies.planned,
            "movies_stored": self.movies.stored,
            "missing": self.missing,
            "quarantined": self.quarantined,
            "short": self.pages.short,
            "unreachable": self.unreachable,
            "left_s": round(self.left_s(per_s), 1) if per_s else None,
            "by_genre": {genre: part.as_dict() for genre, part in self.by_genre.items()},
            "by_year": {year: part.as_dict() for year, part in self.by_year.items()},
        }


def _same(value: Any) -> Any:
    return value


#: Fields that MongoDB cannot hold as they are: the name and the form in the document.
_ENCODE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "genres": ("genres", lambda genres: [{"id": id_, "name": name} for id_, name in genres.items()]),
    "years": ("years", list),
    "parts": ("parts", list),
    "max_age": ("max_age_s", lambda age: age.total_seconds() if age is not None else None),
    "first": ("first", str),
}
#: The same, back from the document.
_DECODE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "genres": ("genres", lambda genres: {genre["id"]: genre["name"] for genre in genres}),
    "years": ("years", tuple),
    "parts": ("parts", tuple),
    "max_age": ("max_age_s", lambda age_s: timedelta(seconds=age_s) if age_s is not None else None),
    "first": ("first", date.fromisoformat),
}
