"""When a page that keeps failing is poison, and when TMDB is at fault."""

import random
from collections.abc import Callable, Iterable
from hashlib import sha256

import pytest

from worker import retry
from worker.errors import ApiFailure, NotNow, Poison, Rejected
from worker.keys import GENRE_IDS, MovieKey, PageKey
from worker.retry import Attempts, Deadlines, ask
from worker.tmdb import flakiness
from worker.tmdb.endpoints import KEY_CHECK
from worker.tmdb.flakiness import COMPARISONS, ENOUGH, FREE_FAILURES, FlakinessWindow

KEY = PageKey(18, "2020", 3)

Key = PageKey | MovieKey


class Api:
    """Stands in for the client and the limiter; `is_down` decides which requests fail."""

    def __init__(self) -> None:
        self.is_down: Callable[[Key], bool] = lambda _: False
        self.requested: list[Key] = []
        self.pauses: list[float] = []

    def check_answers(self, key: Key, request: object, deadline: float) -> None:  # noqa: ARG002 -- as the client's
        self.requested.append(key)
        if self.is_down(key):
            raise ApiFailure("HTTP 500")

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def fetch(self, key: Key) -> None:
        """Fetch as a task does."""
        for attempt in Attempts(Deadlines.from_now(), key, lambda _: KEY_CHECK):
            with attempt:
                self.check_answers(key, None, 0)

    def fetch_all(self, keys: Iterable[Key]) -> int:
        """Fetch each; return how many succeed. NotNow is waited out by requeueing; Poison is raised."""
        fetched = 0
        for key in keys:
            try:
                self.fetch(key)
            except NotNow:
                continue
            fetched += 1
        return fetched


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(7)


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> FlakinessWindow:
    empty = FlakinessWindow()
    monkeypatch.setattr(flakiness, "_window", empty)
    return empty


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()
    monkeypatch.setattr(retry, "tmdb_client", lambda: made)
    monkeypatch.setattr(retry, "limiter", lambda: made)
    return made


def hashed(key: Key, share: float) -> bool:
    """Whether the key is in a fixed `share` of all keys."""
    return sha256(key.id.encode()).digest()[0] < share * 256


def pages(number: int) -> list[PageKey]:
    """Random pages of a backfill."""
    dice = random.Random(number)  # noqa: S311 -- no secret
    return [
        PageKey(dice.choice(GENRE_IDS), str(dice.randint(1990, 2025)), dice.randint(1, 40))
        for _ in range(number)
    ]


@pytest.mark.parametrize("key", [KEY, MovieKey(603)])
def test_a_page_that_always_fails_alone_is_poison_after_five_attempts(api: Api, key: Key) -> None:
    api.is_down = lambda requested: requested == key
    with pytest.raises(Poison, match="5 attempts: HTTP 500"):
        api.fetch(key)
    assert api.requested.count(key) == FREE_FAILURES + COMPARISONS == 5
    # After the last failure similar pages succeed, and more of them until ENOUGH are known.
    last = len(api.requested) - api.requested[::-1].index(key)
    assert last == 5 + 3 * (COMPARISONS - 1)
    assert len(set(api.requested[last:])) >= 3
    assert len(set(api.requested)) > ENOUGH == 40


def test_with_many_recent_requests_only_similar_pages_are_requested(
    api: Api, window: FlakinessWindow
) -> None:
    for key in pages(100):
        window.record(key.id, succeeded=True)
    api.is_down = lambda requested: requested == KEY
    with pytest.raises(Poison):
        api.fetch(KEY)
    assert len(api.requested) == 5 + 3 * COMPARISONS


@pytest.mark.parametrize(
    "is_down",
    [
        lambda _: True,
        lambda key: key.genre_id == KEY.genre_id,
        lambda key: key.window == KEY.window,
        lambda key: key.page == KEY.page,
        lambda key: key.cell == KEY.cell,
        lambda key: (key.genre_id, key.page) == (KEY.genre_id, KEY.page),
        lambda key: (key.window, key.page) == (KEY.window, KEY.page),
    ],
    ids=["all", "genre", "window", "page", "genre and window", "genre and page", "window and page"],
)
def test_no_page_is_poison_while_part_of_the_api_is_down(api: Api, is_down: Callable[[Key], bool]) -> None:
    """Without other recent requests: this is the last page of a backfill."""
    api.is_down = is_down
    for _ in range(50):
        with pytest.raises(NotNow, match="fails too"):
            api.fetch(KEY)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_no_page_is_poison_while_some_queries_fail(api: Api, share: float) -> None:
    api.is_down = lambda key: hashed(key, share)
    assert api.fetch_all(pages(3000)) > 0.7 * (1 - share) * 3000


def test_no_movie_is_poison_while_half_of_them_fail(api: Api) -> None:
    api.is_down = lambda key: hashed(key, 0.5)
    api.fetch_all(map(MovieKey, range(1, 1000)))


def test_no_page_is_poison_while_half_of_all_responses_fail(api: Api) -> None:
    dice = random.Random(5)  # noqa: S311 -- no secret
    api.is_down = lambda _: dice.random() < 0.5
    api.fetch_all(pages(2000))


def test_no_page_is_poison_while_others_failed_recently(api: Api, window: FlakinessWindow) -> None:
    """Not even if similar pages succeed."""
    for key in pages(100):
        window.record(key.id, succeeded=key.genre_id != 35)
    for number in range(20):
        window.record(f"35:1999:{number}", succeeded=False)
    api.is_down = lambda requested: requested == KEY
    with pytest.raises(NotNow, match="now and then"):
        api.fetch(KEY)


def test_many_broken_pages_all_become_poison(api: Api) -> None:
    bad = set(pages(30))
    api.is_down = lambda key: key in bad
    left = set(bad)
    for _ in range(20):
        for key in sorted(left):
            try:
                api.fetch(key)
            except Poison:
                left.discard(key)
            except NotNow:
                continue
    assert left == set()


def test_slow_failures_are_compared_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is time for only three responses that drip for 12 s."""
    monkeypatch.setattr(flakiness, "SLOW_S", 0.0)
    api.is_down = lambda requested: requested == KEY
    with pytest.raises(Poison, match="3 attempts"):
        api.fetch(KEY)


def test_pauses_grow_between_attempts_and_precede_a_requeue(api: Api) -> None:
    api.is_down = lambda _: True
    with pytest.raises(NotNow):
        api.fetch(KEY)
    assert [round(pause, 1) for pause in api.pauses] == [0.5, 1.0, flakiness.REQUEUE_PAUSE_S]


def test_a_rejection_counts_as_a_success(api: Api, window: FlakinessWindow) -> None:
    for key in pages(30):
        for attempt in Attempts(Deadlines.from_now(), key, lambda _: KEY_CHECK):
            with pytest.raises(Rejected), attempt:
                raise Rejected("HTTP 404: no")
            break
    assert window.others("") == [True] * len(set(pages(30)))
    assert api.requested == []


def test_without_a_key_five_failures_are_poison(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: float) -> None:
        raise ApiFailure("HTTP 500")

    with pytest.raises(Poison, match=r"5 attempts: HTTP 500$"):
        ask(fail)
    monkeypatch.setattr(retry, "last_failure", lambda: "https://nowhere/3/genre/movie/list: HTTP 500")
    with pytest.raises(Poison, match="5 attempts: HTTP 500; last asked: https://nowhere/3/genre/movie/list"):
        ask(fail)
    assert api.requested == []


class TestFlakinessWindow:
    def test_old_outcomes_do_not_count(self) -> None:
        window = FlakinessWindow(life_s=0.0)
        for number in range(50):
            window.record(str(number), succeeded=False)
        assert window.others("") == []

    def test_the_last_outcome_of_each_other_page_counts(self, window: FlakinessWindow) -> None:
        for succeeded in (False, True):
            window.record("one", succeeded=succeeded)
            window.record("another", succeeded=not succeeded)
            window.record("itself", succeeded=False)
        assert window.others("itself") == [True, False]

    def test_the_oldest_outcomes_are_dropped(self) -> None:
        window = FlakinessWindow(length=30)
        for number in range(100):
            window.record(str(number), succeeded=number > 69)
        assert window.others("") == [True] * 30
