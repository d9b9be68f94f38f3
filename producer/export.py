"""Data out: stored movies as JSON Lines, one raw list item a line, in the order of ids."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from worker.errors import UsageError
from worker.store import Store


def export_movies(store: Store, target: Path, on_movie: Callable[[], None] = lambda: None) -> int:
    """Write every stored movie as TMDB sent it to `target`, gzipped where that ends in .gz; returns how many.

    The file appears whole or not at all. Raises UsageError when it cannot be written.
    """
    written = 0
    with _replacing(target) as lines:
        for movie in store.each_movie():
            lines.write(json.dumps(raw(movie), ensure_ascii=False, separators=(",", ":")) + "\n")
            written += 1
            on_movie()
    return written


def raw(movie: dict[str, Any]) -> dict[str, Any]:
    """The list item as TMDB sent it: without what the store added."""
    return {name: value for name, value in movie.items() if name not in ("_id", "_meta")}


@contextmanager
def _replacing(target: Path) -> Iterator[IO[str]]:
    if not target.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        raise UsageError(f"{target}: expected a file that ends in .jsonl or .jsonl.gz")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    opener: Callable[..., Any] = gzip.open if target.suffix == ".gz" else open
    try:
        with opener(partial, "wt", encoding="utf-8") as lines:
            yield lines
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
