"""Pages for a store, without TMDB; and several threads or writers at once."""

import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from worker.keys import PageKey
from worker.records import Page
from worker.storage.database import Storage

AT = datetime(2026, 1, 1, 12, 0, 0, 123_000, UTC)


def page_of(
    movies: Sequence[dict[str, Any]] = (), *, number: int = 1, total_pages: int = 1, at: datetime = AT
) -> Page:
    """The page, as if requested at that time."""
    results = list(movies)
    body = json.dumps({"page": number, "results": results, "total_pages": total_pages}).encode()
    return Page(number, results, total_pages, len(results), at, sha256(body).hexdigest(), body)


def put(storage: Storage, key: PageKey, total_pages: int = 1, at: datetime = AT) -> None:
    """Save an empty page of a cell with so many pages."""
    storage.pages.save(key, page_of(number=key.page, total_pages=total_pages, at=at))


def just_before(
    monkeypatch: pytest.MonkeyPatch, collection: Any, method: str, act: Callable[[], object]
) -> None:
    """Run `act` right before the first call of the collection's method, as another writer would."""
    original, acts = getattr(collection, method), [act]

    def call(*arguments: Any, **options: Any) -> Any:
        if acts:
            acts.pop()()
        return original(*arguments, **options)

    monkeypatch.setattr(collection, method, call)


def in_threads(tracks: Sequence[Sequence[Any]], work: Callable[[Any], object]) -> list[BaseException]:
    """Do `work` on the entries of each track, in a thread per track; returns the errors."""
    start, errors = threading.Barrier(len(tracks)), list[BaseException]()

    def follow(track: Sequence[Any]) -> None:
        try:
            start.wait(30)
            for entry in track:
                work(entry)
        except BaseException as error:  # noqa: BLE001 -- for the test to judge
            errors.append(error)

    threads = [threading.Thread(target=follow, args=(track,)) for track in tracks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return errors
