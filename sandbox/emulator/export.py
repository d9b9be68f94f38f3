"""TMDB's daily export of movie ids: outside /3, without a key, gzip."""

import json
import re
import zlib
from collections.abc import Iterator, Sequence

from starlette.responses import StreamingResponse

from sandbox.emulator.catalog import Movie
from sandbox.emulator.items import encode

_PATH = re.compile(r"/p/exports/movie_ids_\d\d_\d\d_\d{4}\.json\.gz")
_GZIP = 31
#: Movies in one chunk of a stream.
_CHUNK = 2_000


def is_export(path: str) -> bool:
    """Whether it is a day's export; on every day that is the catalogue as it is now."""
    return _PATH.fullmatch(path) is not None


def export_reply(movies: Sequence[Movie]) -> StreamingResponse:
    """The export, compressed while it is sent, off the event loop."""
    return StreamingResponse(_gzipped(movies), media_type="application/gzip")


def items_reply(movies: Sequence[Movie]) -> StreamingResponse:
    """The whole list items as JSON Lines."""
    chunks = (b"".join(movie.raw + b"\n" for movie in chunk) for chunk in _chunks(movies))
    return StreamingResponse(chunks, media_type="application/x-ndjson")


def _gzipped(movies: Sequence[Movie]) -> Iterator[bytes]:
    compressor = zlib.compressobj(wbits=_GZIP)
    for chunk in _chunks(movies):
        yield compressor.compress(b"".join(map(_line, chunk)))
    yield compressor.flush()


def _chunks(movies: Sequence[Movie]) -> Iterator[Sequence[Movie]]:
    return (movies[start : start + _CHUNK] for start in range(0, len(movies), _CHUNK))


def _line(movie: Movie) -> bytes:
    """Keys and order as in TMDB's file."""
    fields = {
        "adult": movie.adult,
        "id": movie.id,
        "original_title": movie.original_title,
        "popularity": movie.popularity,
        "video": json.loads(movie.raw).get("video") is True,
    }
    return encode(fields) + b"\n"
