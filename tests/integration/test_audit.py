"""The daily list of ids compared with what is stored."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from producer.audit import audit, missing_ids
from tests.support.id_list import line
from worker.errors import UsageError
from worker.storage.database import Storage

AT = datetime(2026, 5, 16, 9, tzinfo=UTC)
NAME = "movie_ids_05_15_2026.json.gz"


def insert(storage: Storage, ids: Iterable[int], first_seen: datetime, **meta: object) -> None:
    movies = [{"_id": id_, "_meta": {"first_seen": first_seen, **meta}} for id_ in ids]
    storage.movies.collection.insert_many(movies)


def test_missing_gone_and_newer_movies(storage: Storage) -> None:
    for ask in (lambda: audit(storage), lambda: list(missing_ids(storage))):
        with pytest.raises(UsageError, match=r"no list of ids is loaded: .*`reelhaul ids load FILE`"):
            ask()
    listed = [line(1), line(2), line(3, adult=True), line(4, video=True), line(5, adult=True), line(9)]
    storage.id_export.load(listed, NAME, AT)
    day = datetime(2026, 5, 15, tzinfo=UTC)
    insert(storage, [2, 5], day - timedelta(days=9))
    insert(storage, [6, 10], day - timedelta(seconds=1))
    insert(storage, [7], day - timedelta(days=9), gone_at=day)
    insert(storage, [8], day)
    steps: list[int] = []
    found = audit(storage, lambda: steps.append(1))
    assert found.missing.tolist() == [1, 3, 4, 9] == list(missing_ids(storage))
    assert (found.missing_adult, found.missing_video) == (1, 1)
    assert (found.gone.tolist(), found.newer) == ([6, 10], 1)
    assert found.stored == len(steps) == 6
