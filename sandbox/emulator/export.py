"""TMDB's daily list of movie ids, as its files host serves it: outside /3, without a key, gzip."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence

from starlette.responses import StreamingResponse

from sandbox.emulator.catalog import Movie
from sandbox.emulator.items import encode

_PATH = re.compile(r"/p/exports/movie_ids_\d\d_\d\d_\d{4}\.json\.gz")
_GZIP = 31
#: Lines that are packed at a time.
_CHUNK = 2_000


def is_export(path: str) -> bool:
    """Whether it is a day's list; every day's is the catalogue as it is now."""
    return _PATH.fullmatch(path) is not None


def export_reply(movies: Sequence[Movie]) -> StreamingResponse:
    """The list, packed while it is sent, away from the event loop."""
    return StreamingResponse(_packed(movies), media_type="application/gzip")


def _packed(movies: Sequence[Movie]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=_GZIP)
    for start in range(0, len(movies), _CHUNK):
        yield packer.compress(b"".join(map(_line, movies[start : start + _CHUNK])))
    yield packer.flush()


def _line(movie: Movie) -> bytes:
    """Keys and order as in TMDB's file."""
    facts = {
        "adult": movie.adult,
        "id": movie.id,
        "original_title": movie.original_title,
        "popularity": movie.popularity,
        "video": json.loads(movie.raw).get("video") is True,
    }
    return encode(facts) + b"\n"
