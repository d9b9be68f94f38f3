"""Write stored movies to a file: JSON Lines, one raw list item per line, in the order of ids."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.errors import UsageError
from worker.monitoring.files import replace_file
from worker.storage.database import Storage


def export_movies(storage: Storage, target: Path, on_movie: Callable[[], None] = lambda: None) -> int:
    """Write every stored movie as TMDB sent it; returns how many. Gzipped if `target` ends in .gz.

    The file appears complete or not at all. Raises UsageError when it cannot be written.
    """
    if not target.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        raise UsageError(f"{target}: expected a file that ends in .jsonl or .jsonl.gz")
    written = 0
    try:
        with replace_file(target) as file, gzip.open(file, "wb") if target.suffix == ".gz" else file as lines:
            for movie in storage.movies.each():
                item = {name: value for name, value in movie.items() if name not in ("_id", "_meta")}
                lines.write(_line(item) + b"\n")
                written += 1
                on_movie()
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None
    return written


def _line(item: dict[str, Any]) -> bytes:
    try:
        return _encode(item)
    except ValueError:  # it holds an infinity or NaN: an older version or somebody else stored it
        return _encode(_without_infinities(item))


def _encode(item: Any) -> bytes:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _without_infinities(value: Any) -> Any:
    """The same value with null for each number that JSON cannot express."""
    if isinstance(value, dict):
        return {name: _without_infinities(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_infinities(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
