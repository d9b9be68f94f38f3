"""Data out: stored movies as JSON Lines, one raw list item a line, in the order of ids."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from worker.errors import UsageError
from worker.storage.database import Storage

_encode = partial(json.dumps, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def export_movies(storage: Storage, target: Path, on_movie: Callable[[], None] = lambda: None) -> int:
    """Write every stored movie as TMDB sent it to `target`, gzipped where that ends in .gz; returns how many.

    The file appears whole or not at all. Raises UsageError when it cannot be written.
    """
    written = 0
    with _replacing(target) as lines:
        for movie in storage.movies.each():
            lines.write(_line(raw(movie)) + "\n")
            written += 1
            on_movie()
    return written


def raw(movie: dict[str, Any]) -> dict[str, Any]:
    """The list item as TMDB sent it: without what the store added."""
    return {name: value for name, value in movie.items() if name not in ("_id", "_meta")}


def _line(movie: dict[str, Any]) -> str:
    try:
        return _encode(movie)
    except ValueError:  # stored before such numbers were refused, or by somebody else
        return _encode(_without_infinities(movie))


def _without_infinities(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _without_infinities(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_infinities(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _replacing(target: Path) -> Iterator[IO[str]]:
    if not target.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        raise UsageError(f"{target}: expected a file that ends in .jsonl or .jsonl.gz")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.partial")
    opener: Callable[..., Any] = gzip.open if target.suffix == ".gz" else open
    try:
        with opener(unfinished, "wt", encoding="utf-8") as lines:
            yield lines
        unfinished.replace(target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # where it could not be made, it may not be looked for either
            unfinished.unlink()
