"""The Arrow schemas of list items and details, and how documents that disagree are made to fit.

TMDB's documents are stored raw: some have `vote_average: 7`, others `7.2`; a missing date is "". A column has
one type all the same. What does not fit becomes null, and in a list it is left out.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa

from reelhaul.errors import UnknownColumn
from worker.storage.raw import OURS, to_json

Document = Mapping[str, Any]

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INT64 = range(-(2**63), 2**63)
_TEXT, _INT, _FLOAT, _BOOL, _DAY = pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.date32()
_TIME = pa.timestamp("ms", tz="UTC")
#: Python's types that need no settling, by Arrow's.
_EXACT: dict[pa.DataType, set[type]] = {_TEXT: {str}, _INT: {int}, _BOOL: {bool}}


@dataclass(frozen=True)
class Column:
    """A column: its name, its type, and where in the document its value is."""

    name: str
    type: pa.DataType
    path: tuple[str, ...]


def _fields(type_: pa.DataType, *names: str) -> dict[str, pa.DataType]:
    return dict.fromkeys(names, type_)


def _structs(*parts: Mapping[str, pa.DataType]) -> pa.DataType:
    return pa.list_(_struct(*parts))


def _struct(*parts: Mapping[str, pa.DataType]) -> pa.DataType:
    return pa.struct([field for part in parts for field in part.items()])


_PERSON = {
    "id": _INT, "name": _TEXT, "original_name": _TEXT, "gender": _INT, "adult": _BOOL, "popularity": _FLOAT,
    "known_for_department": _TEXT, "profile_path": _TEXT, "credit_id": _TEXT,
}  # fmt: skip
_IMAGE = {
    **_fields(_TEXT, "file_path", "iso_639_1", "iso_3166_1"),
    **_fields(_INT, "width", "height", "vote_count"), **_fields(_FLOAT, "aspect_ratio", "vote_average"),
}  # fmt: skip
_RELEASE = {
    **_fields(_TEXT, "certification", "iso_639_1", "note", "release_date"), "type": _INT,
    "descriptors": pa.list_(_TEXT),
}  # fmt: skip
_VIDEO = {
    **_fields(_TEXT, "id", "key", "name", "site", "type", "iso_639_1", "iso_3166_1", "published_at"),
    "size": _INT, "official": _BOOL,
}  # fmt: skip

_GENRES = {"genre_ids": pa.list_(_INT), "genres": pa.list_(_TEXT)}
#: A list item's columns, TMDB's fields by name; genre names beside the ids.
_ITEM: dict[str, pa.DataType] = {
    **_fields(_TEXT, "title", "original_title"), "release_date": _DAY, **_GENRES,
    **_fields(_TEXT, "overview", "original_language"), "popularity": _FLOAT, "vote_average": _FLOAT,
    "vote_count": _INT, **_fields(_BOOL, "adult", "video", "softcore"),
    **_fields(_TEXT, "poster_path", "backdrop_path"),
}  # fmt: skip
#: Further columns of details.
_WHOLE: dict[str, pa.DataType] = {
    **_fields(_TEXT, "imdb_id", "status", "tagline", "homepage"),
    **_fields(_INT, "budget", "revenue", "runtime"), "origin_country": pa.list_(_TEXT),
    "belongs_to_collection": _struct({"id": _INT}, _fields(_TEXT, "name", "poster_path", "backdrop_path")),
    "production_companies": _structs({"id": _INT}, _fields(_TEXT, "name", "logo_path", "origin_country")),
    "production_countries": _structs(_fields(_TEXT, "iso_3166_1", "name")),
    "spoken_languages": _structs(_fields(_TEXT, "iso_639_1", "name", "english_name")),
}  # fmt: skip
#: Appended parts, without the objects that TMDB wraps their lists in.
_PARTS: dict[tuple[str, ...], pa.DataType] = {
    ("credits", "cast"): _structs(_PERSON, {"cast_id": _INT, "character": _TEXT, "order": _INT}),
    ("credits", "crew"): _structs(_PERSON, _fields(_TEXT, "department", "job")),
    ("keywords", "keywords"): _structs({"id": _INT, "name": _TEXT}),
    ("alternative_titles", "titles"): _structs(_fields(_TEXT, "iso_3166_1", "title", "type")),
    ("external_ids",): _struct(
        _fields(_TEXT, "imdb_id", "wikidata_id", "facebook_id", "instagram_id", "twitter_id")
    ),
    ("release_dates", "results"): _structs({"iso_3166_1": _TEXT, "release_dates": _structs(_RELEASE)}),
    ("videos", "results"): _structs(_VIDEO),
    **{("images", kind): _structs(_IMAGE) for kind in ("backdrops", "posters", "logos")},
}
#: Parts whose column has the part's name, not the list's.
_NAMED_BY_PART = {"keywords", "alternative_titles", "release_dates", "videos"}

_ID = Column("id", _INT, ("id",))
_RANK = Column("rank", _INT, ("rank",))
_RAW = Column("raw", _TEXT, ("raw",))
_FETCHED_AT = Column("fetched_at", _TIME, ("_meta", "fetched_at"))
MOVIES = (_ID, *(Column(name, type_, (name,)) for name, type_ in _ITEM.items()), _FETCHED_AT)
DETAILS = (
    *MOVIES[:-1],
    *(Column(name, type_, (name,)) for name, type_ in _WHOLE.items()),
    *(Column(p[0] if p[0] in _NAMED_BY_PART else p[-1], type_, p) for p, type_ in _PARTS.items()),
    _FETCHED_AT,
)


class Layout:
    """The chosen columns, and how documents become rows of them.

    `ranked`: with `rank`, a movie's place in the list of popular movies, from 1.
    """

    def __init__(
        self,
        columns: Iterable[str] | None = None,
        *,
        details: bool = False,
        raw: bool = False,
        ranked: bool = False,
        names: Mapping[int, str] | None = None,
    ) -> None:
        whole = ((_RANK,) if ranked else ()) + (DETAILS if details else MOVIES)
        self._known = {column.path[0] for column in whole} | OURS | {"genre_ids", "genres"}
        self.columns = _choose(columns, whole, raw=raw)
        self.schema = pa.schema([(column.name, column.type) for column in self.columns])
        self._names = names or {}

    @property
    def projection(self) -> dict[str, int] | None:
        """The fields to read; None: all."""
        if _RAW in self.columns:
            return None
        fields = {column.path[0] for column in self.columns}
        if fields & _GENRES.keys():
            fields |= _GENRES.keys()
        return dict.fromkeys(sorted({*fields, "_id"}), 1)

    def batch(self, documents: Sequence[Document]) -> pa.RecordBatch:
        """The documents as rows, in their order."""
        ids = [genre_ids(document) for document in documents] if _GENRES.keys() & self.schema.names else []
        arrays = [self._array(column, documents, ids) for column in self.columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _array(self, column: Column, documents: Sequence[Document], ids: list[list[int] | None]) -> pa.Array:
        values: list[Any]
        if column.name == "genre_ids":
            values = ids
        elif column.name == "genres":
            values = [None if one is None else [self._name(id_) for id_ in one] for one in ids]
        elif column is _RAW:
            values = [self._raw(document) for document in documents]
        else:
            values = settle([_at(document, column.path) for document in documents], column.type)
        return pa.array(values, column.type)

    def _name(self, genre_id: int) -> str:
        return self._names.get(genre_id) or f"genre {genre_id}"

    def _raw(self, document: Document) -> str | None:
        """The fields that have no column, as JSON; None when there are none."""
        unknown = {name: value for name, value in document.items() if name not in self._known}
        return to_json(unknown).decode() if unknown else None


def _choose(columns: Iterable[str] | None, whole: tuple[Column, ...], *, raw: bool) -> tuple[Column, ...]:
    """The columns by name, in the order given, each once."""
    if isinstance(columns, str):
        columns = [columns]
    known = {column.name: column for column in (*whole, _RAW)}
    names = [column.name for column in whole] if columns is None else list(columns)
    for name in names:
        if name not in known:
            raise UnknownColumn(f"columns: unknown column {name!r}; expected some of: {', '.join(known)}")
    if not names:
        raise UnknownColumn(f"columns: none given; expected some of: {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys([*names, *(["raw"] if raw else [])]))


def genre_ids(document: Document) -> list[int] | None:
    """The genre ids of a list item, or of details, which hold genres with names."""
    ids = document.get("genre_ids")
    if ids is None and isinstance(genres := document.get("genres"), list):
        ids = [genre.get("id") for genre in genres if isinstance(genre, dict)]
    return _settle_list(ids, _INT)


def _at(document: Document, path: Sequence[str]) -> Any:
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def settle(values: list[Any], type_: pa.DataType) -> list[Any]:
    """The values as that type holds them; None for what it cannot hold."""
    exact = _EXACT.get(type_)
    if exact and {type(value) for value in values} <= {*exact, type(None)}:
        return values
    return [_settle(value, type_) for value in values]


def _settle(value: Any, type_: pa.DataType) -> Any:
    if pa.types.is_list(type_):
        return _settle_list(value, type_.value_type)
    if pa.types.is_struct(type_):
        return (
            {f.name: _settle(value.get(f.name), f.type) for f in type_} if isinstance(value, dict) else None
        )
    if type_ == _DAY:
        return _to_date(value) if isinstance(value, str) else None
    if type_ in {_INT, _FLOAT}:
        return _to_number(value, type_)
    if type_ == _TIME:
        return value if isinstance(value, datetime) else None
    return value if isinstance(value, str if type_ == _TEXT else bool) else None


def _settle_list(value: Any, type_: pa.DataType) -> list[Any] | None:
    if not isinstance(value, list):
        return None
    return [settled for part in value if (settled := _settle(part, type_)) is not None]


def _to_number(value: Any, type_: pa.DataType) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return float(value) if type_ == _FLOAT else value if value in _INT64 else None
    if not math.isfinite(value):
        return None
    if type_ == _FLOAT:
        return value
    return int(value) if value.is_integer() and int(value) in _INT64 else None


@lru_cache(maxsize=65_536)
def _to_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None
