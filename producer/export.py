"""Files of stored movies: their formats by suffix, and JSON Lines, which need no further package.

JSON Lines hold documents as TMDB sent them. The others have columns: producer.tables.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from worker.errors import UsageError
from worker.monitoring.files import replace_file
from worker.storage.mongo import Document
from worker.storage.raw import to_json

#: Raw documents, one a line.
LINES = (".jsonl", ".ndjson")
#: Formats that compress by themselves.
BINARY = (".parquet", ".arrow")
_COMPRESSED = (".gz", ".zst")
_EXPECTED = (
    "expected a file that ends in .parquet, .arrow, .csv or .jsonl, the last two also with .gz or .zst"
)


class Format(NamedTuple):
    """A file's format, and how the file as a whole is compressed; both are suffixes."""

    name: str
    compression: str

    @property
    def is_raw(self) -> bool:
        """Whether documents are written as TMDB sent them, without columns."""
        return self.name in LINES

    @property
    def needs_pyarrow(self) -> bool:
        """Whether the extra `data` is needed."""
        return not self.is_raw or self.compression == ".zst"


def parse_format(target: Path) -> Format:
    """The format that the file's suffix names; UsageError for another suffix, and for a folder."""
    compression = target.suffix if target.suffix in _COMPRESSED else ""
    name = Path(target.name.removesuffix(compression)).suffix
    if name not in (*LINES, *BINARY, ".csv") or (compression and name in BINARY):
        raise UsageError(f"{target}: {_EXPECTED}")
    with suppress(OSError):  # a name that is too long: opening the file says so
        if target.is_dir():
            raise UsageError(f"{target}: cannot be written: it is a folder")
    return Format(name, compression)


def write_lines(
    documents: Iterable[Document], target: Path, on_rows: Callable[[int], None] = lambda _: None
) -> int:
    """Write each document on a line; returns how many.

    The file appears complete or not at all. Raises UsageError when it cannot be written.
    """
    written = 0
    with open_target(target, parse_format(target).compression) as file:
        for document in documents:
            file.write(to_json(document) + b"\n")
            written += 1
            on_rows(1)
    return written


@contextmanager
def open_target(target: Path, compression: str) -> Iterator[IO[Any]]:
    """Yield a file that takes the place of `target` when the block ends; UsageError when that fails."""
    try:
        with replace_file(target) as file, _compressed(file, compression) as inner:
            yield inner
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None


@contextmanager
def _compressed(file: IO[Any], compression: str) -> Iterator[Any]:
    if compression == ".gz":
        # Neither name nor time inside, so that the same data gives the same file.
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as inner:
            yield inner
    elif compression == ".zst":
        import pyarrow as pa  # noqa: PLC0415 -- of an extra

        with pa.CompressedOutputStream(file, "zstd") as inner:
            yield inner
    else:
        yield file
