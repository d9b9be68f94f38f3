"""A training set: train.parquet and test.parquet, one boolean a genre, and a README.md that counts them.

Needs pyarrow and the standard library only.
"""

import errno
import hashlib
import os
import shutil
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

#: Of a hundred movies, how many go to the test side, on average.
TEST_PERCENT = 20
SIDES = ("train", "test")
FILES = frozenset({"train.parquet", "test.parquet", "README.md"})
#: TMDB's terms: nothing may be kept for longer than six months without being fetched again.
KEEP = timedelta(days=180)
#: Rows in memory while the booleans are made, and in a row group of the files: some 10 MB.
BATCH_ROWS = 16_384

#: Columns of the batches.
COLUMNS = ("id", "title", "overview", "genre_ids", "fetched_at")
_MOVIE = pa.schema([("id", pa.int64()), ("title", pa.string()), ("overview", pa.string())])
_SPOOLED = _MOVIE.append(pa.field("genre_ids", pa.list_(pa.int64())))


class NoMovies(ValueError):
    """None of the movies has an overview."""


@dataclass
class Counts:
    """What a training set holds, and what was left out of it."""

    #: Movies by side.
    movies: Counter[str] = field(default_factory=Counter)
    #: Movies without a genre, by side.
    without_genre: Counter[str] = field(default_factory=Counter)
    #: By genre, the name of its column: movies by side.
    genres: dict[str, Counter[str]] = field(default_factory=dict)
    without_overview: int = 0
    #: An id, or an overview, that an earlier movie has too.
    duplicates: int = 0
    #: When the oldest movie was fetched; None when the batches do not say.
    oldest: datetime | None = None


def is_test(movie_id: int) -> bool:
    """Whether a movie is on the test side: it never changes sides, whatever else is stored.

    The first eight bytes of the SHA-256 of the decimal id, a big-endian integer, modulo 100, are below 20.
    """
    return _hash(str(movie_id)) % 100 < TEST_PERCENT


def write_training_set(
    batches: Iterable[pa.RecordBatch],
    genres: Mapping[int, str],
    target: Path,
    *,
    written_on: date | None = None,
    on_movie: Callable[[], None] = lambda: None,
) -> Counts:
    """Write the folder `target` from batches with the columns id, title, overview and genre_ids.

    A column `fetched_at`, if there is one, dates the oldest movie; further columns are ignored. Each of
    `genres`, and each genre that a movie has, becomes a column. Of movies with the same id, or overview but
    for case and spaces, the first is kept. `on_movie` is called for each movie read.

    The folder appears complete or not at all, in the place of an older training set. Some 20 bytes a movie
    stay in memory. Raises NoMovies, and OSError when the folder holds other files or cannot be written.
    """
    target = target.resolve()
    _check_replaceable(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process with the same pid
    partial.mkdir()
    try:
        counts, found = _spool(batches, partial, on_movie)
        columns = _column_names(genres, found)
        counts.genres = {name: Counter() for name in columns.values()}
        for side in SIDES:
            _write_side(side, partial, columns, counts)
        text = _readme(counts, written_on or datetime.now(UTC).date())
        (partial / "README.md").write_text(text, encoding="utf-8")
        _put_in_place(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return counts


def _spool(
    batches: Iterable[pa.RecordBatch], folder: Path, on_movie: Callable[[], None]
) -> tuple[Counts, set[int]]:
    """Write the movies that are kept to one file a side; returns counts and the genres found.

    The booleans need all genres, which are known only at the end. Raises NoMovies.
    """
    counts, found, seen = Counts(), set[int](), _Seen()
    with ExitStack() as files:
        spools = {
            side: files.enter_context(pq.ParquetWriter(_spool_file(folder, side), _SPOOLED)) for side in SIDES
        }
        for batch in batches:
            rows: dict[str, list[int]] = {side: [] for side in SIDES}
            ids, overviews = (batch.column(name).to_pylist() for name in ("id", "overview"))
            for row, (movie_id, overview) in enumerate(zip(ids, overviews, strict=True)):
                if _is_kept(movie_id, overview, seen, counts):
                    rows["test" if is_test(movie_id) else "train"].append(row)
                on_movie()
            counts.oldest = _oldest(counts.oldest, batch)
            movies = pa.RecordBatch.from_arrays(
                [batch.column(name).cast(_SPOOLED.field(name).type) for name in _SPOOLED.names],
                schema=_SPOOLED,
            )
            for side, chosen in rows.items():
                kept = movies.take(pa.array(chosen, pa.int64()))
                found.update(id_ for ids in kept.column("genre_ids").to_pylist() for id_ in ids or ())
                counts.movies[side] += kept.num_rows
                spools[side].write_batch(kept)
    if not counts.movies.total():
        raise NoMovies("none of the movies has an overview")
    return counts, found


def _is_kept(movie_id: int, overview: str | None, seen: "_Seen", counts: Counts) -> bool:
    words = (overview or "").casefold().split()
    if not words:
        counts.without_overview += 1
        return False
    # Both are looked up, so that a repeated id does not reserve its second overview.
    if seen.has(id_key := _hash(str(movie_id))) or seen.has(overview_key := _hash("=" + " ".join(words))):
        counts.duplicates += 1
        return False
    seen.add(id_key)
    seen.add(overview_key)
    return True


class _Seen:
    """A set of 64-bit hashes in 8 to 10 bytes each, where Python's own needs 90."""

    def __init__(self) -> None:
        self._buckets: dict[int, array[int]] = defaultdict(lambda: array("Q"))

    def has(self, hashed: int) -> bool:
        return hashed in self._buckets[hashed >> 48]

    def add(self, hashed: int) -> None:
        self._buckets[hashed >> 48].append(hashed)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _oldest(known: datetime | None, batch: pa.RecordBatch) -> datetime | None:
    times = batch.column("fetched_at").to_pylist() if "fetched_at" in batch.schema.names else []
    return min((time for time in (known, *times) if time is not None), default=None)


def _column_names(genres: Mapping[int, str], found: Iterable[int]) -> dict[int, str]:
    """The column of each genre, sorted by name: its name, or `genre 10769` without one of its own."""
    names: dict[int, str] = {}
    taken = set(_MOVIE.names)
    for id_ in sorted({*genres, *found}):
        name = genres.get(id_) or f"genre {id_}"
        names[id_] = f"genre {id_}" if name in taken else name
        taken.add(names[id_])
    return dict(sorted(names.items(), key=lambda item: item[1]))


def _write_side(side: str, folder: Path, columns: Mapping[int, str], counts: Counts) -> None:
    """Turn a side's spool file into the file to keep, and count its genres."""
    schema = pa.schema([*_MOVIE, *(pa.field(name, pa.bool_(), nullable=False) for name in columns.values())])
    spool = _spool_file(folder, side)
    with pq.ParquetWriter(folder / f"{side}.parquet", schema, compression="zstd") as file:
        for batch in _batches(spool):
            of_movies = [frozenset(ids or ()) for ids in batch.column("genre_ids").to_pylist()]
            arrays = [batch.column(name) for name in _MOVIE.names]
            for id_, name in columns.items():
                has = [id_ in ids for ids in of_movies]
                counts.genres[name][side] += sum(has)
                arrays.append(pa.array(has, pa.bool_()))
            counts.without_genre[side] += sum(not ids for ids in of_movies)
            file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    spool.unlink()


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    # A million movies take 150 MB more when pyarrow reads ahead.
    with pq.ParquetFile(file, pre_buffer=False) as spool:
        yield from spool.iter_batches(BATCH_ROWS)


def _spool_file(folder: Path, side: str) -> Path:
    return folder / f"{side}.spool"


def _check_replaceable(target: Path) -> None:
    """OSError when something else than a training set or an empty folder is there."""
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it exists and is not a folder", str(target))
    if target.exists() and not FILES.issuperset(path.name for path in target.iterdir()):
        raise FileExistsError(errno.EEXIST, "it exists and holds more than a training set", str(target))


def _put_in_place(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    old = partial.with_suffix(".old")
    target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _readme(counts: Counts, written_on: date) -> str:
    age = "The age of the data is not known: count the six months below from when it was fetched."
    if counts.oldest:
        last = (counts.oldest + KEEP).date()
        age = (
            f"The oldest movie was fetched on {counts.oldest.date()}: fetch again, or delete this, by {last}."
        )
    rows = [("movies", counts.movies), ("*without a genre*", counts.without_genre), *counts.genres.items()]
    table = "\n".join(f"| {name} | {of['train']:,} | {of['test']:,} |" for name, of in rows)
    return _README.format(
        written_on=written_on,
        age=age,
        table=table,
        percent=TEST_PERCENT,
        without_overview=counts.without_overview,
        duplicates=counts.duplicates,
    )


_README = """\
# Movies by genre: a training set

Written by Reelhaul on {written_on}.
{age}

`train.parquet` and `test.parquet` have the columns `id`, `title`, `overview`, and one boolean a genre.

| | train | test |
|---|---:|---:|
{table}

Left out: {without_overview:,} without an overview, {duplicates:,} with the id or overview of another movie.

**The split.** A movie is in `test.parquet` if the first eight bytes of the SHA-256 of its id in decimal, read
as a big-endian integer, modulo 100, are below {percent}. So it is on the same side in every training set.

**A movie without a genre** is false in every column. Mostly that means that nobody has given it one yet.

## Notice and terms

This product uses TMDB and the TMDB APIs but is not endorsed, certified, or otherwise approved by TMDB.

TMDB's terms apply to these files. Use in AI or machine learning, and commercial use, need TMDB's agreement:
please check whether yours covers it. Nothing may be kept for longer than six months without being fetched
again, and all of it is to be deleted when the agreement with TMDB ends.
"""
