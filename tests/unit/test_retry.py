"""Attempts at a request, and retries of storage, within their deadlines."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from worker import retry, tasks
from worker.errors import ApiFailure, MongoUnavailable, NoToken, RateLimited
from worker.keys import Fetch, PageKey
from worker.retry import Deadlines, ask, retry_storage
from worker.tasks import fetch_and_save
from worker.tmdb import flakiness

KEY = PageKey(18, "2020", 3)


@pytest.fixture(autouse=True)
def _limiter_that_does_not_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "limiter", lambda: SimpleNamespace(sleep=lambda _: None))


def failing(times: int, error: Exception) -> Callable[..., str]:
    """Raises the error the first `times` times, then returns "done"."""
    outcomes: Iterator[Exception | None] = iter([*[error] * times, None])

    def work(*_: float) -> str:
        if (failure := next(outcomes)) is not None:
            raise failure
        return "done"

    return work


def test_a_429_is_waited_out() -> None:
    assert ask(failing(20, RateLimited(None))) == "done"


def test_a_fresh_page_is_not_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = SimpleNamespace(is_fresh=lambda *_: True)
    monkeypatch.setattr(tasks, "storage", lambda: SimpleNamespace(pages=pages))
    monkeypatch.setattr(tasks, "tmdb_client", lambda: pytest.fail("it was requested"))
    fetch_and_save(Fetch(KEY), Deadlines.from_now())


def test_no_attempt_begins_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now, begun = [0.0], []
    for module in (retry, flakiness):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(flakiness, "SLOW_S", float("inf"))

    def drip(_: float) -> None:
        begun.append(now[0])
        now[0] += 12.0
        raise ApiFailure("ReadTimeout")

    with pytest.raises(NoToken, match="no time"):
        ask(drip)
    assert begun == [0.0, 12.0, 24.0]


def test_storage_is_retried_while_mongodb_is_unavailable() -> None:
    save = failing(2, MongoUnavailable("no server"))
    assert retry_storage(save, time.monotonic() + 60) == "done"


def test_storage_is_retried_only_until_the_deadline() -> None:
    with pytest.raises(MongoUnavailable):
        retry_storage(failing(10**6, MongoUnavailable("no server")), time.monotonic() + 0.2)
