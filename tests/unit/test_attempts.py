"""What a slot makes of trouble: again, back to the queue, or poison."""

import random
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

from worker import retry as attempts
from worker.errors import ApiFailure, MongoUnavailable, NotNow, Poison, RateLimited, Rejected
from worker.keys import GENRE_IDS, MovieKey, PageKey
from worker.retry import Deadlines, fetch, retry_storage
from worker.tmdb import flakiness as blame
from worker.tmdb.flakiness import COMPARISONS, ENOUGH, FREE, FlakinessWindow

KEY = PageKey(18, "2020", 3)


class Api:
    """Answers in the client's place, rests in the limiter's; `is_down` says what of it fails."""

    def __init__(self) -> None:
        self.is_down: Callable[[PageKey | MovieKey], bool] = lambda _: False
        self.asked: list[PageKey | MovieKey] = []
        self.rests: list[float] = []

    def answers(self, key: PageKey | MovieKey, append: Any, deadline: float) -> None:  # noqa: ARG002 -- as the client's
        self.asked.append(key)
        if self.is_down(key):
            raise ApiFailure("HTTP 500")

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)

    def fetch(self, key: PageKey | MovieKey) -> str | None:
        def ask(deadline: float) -> str:
            self.answers(key, (), deadline)
            return "page"

        return fetch(ask, lambda: False, Deadlines.from_now(), key)


@pytest.fixture(autouse=True)
def _lots_are_the_same_each_time() -> None:
    random.seed(7)


@pytest.fixture(autouse=True)
def lately(monkeypatch: pytest.MonkeyPatch) -> FlakinessWindow:
    fresh = FlakinessWindow()
    monkeypatch.setattr(blame, "_lately", fresh)
    return fresh


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()
    monkeypatch.setattr(blame, "tmdb_client", lambda: made)
    monkeypatch.setattr(blame, "limiter", lambda: made)
    return made


def broken(_: float) -> str:
    raise ApiFailure("HTTP 500")


def hashed(key: PageKey | MovieKey, share: float) -> bool:
    return sha256(key.id.encode()).digest()[0] < share * 256


def pages(number: int) -> list[PageKey]:
    """Pages of a backfill, by lot."""
    dice = random.Random(number)  # noqa: S311 -- no secret
    return [
        PageKey(dice.choice(GENRE_IDS), str(dice.randint(1990, 2025)), dice.randint(1, 40))
        for _ in range(number)
    ]


class TestBlame:
    @pytest.mark.parametrize("key", [KEY, MovieKey(603)])
    def test_a_page_that_always_fails_alone_is_poison_after_five_attempts(
        self, api: Api, key: PageKey | MovieKey
    ) -> None:
        api.is_down = lambda asked: asked == key
        with pytest.raises(Poison, match="5 tries: HTTP 500"):
            api.fetch(key)
        assert api.asked.count(key) == FREE + COMPARISONS == 5
        # After its last failure the others were well again, and some more, for nothing else was known.
        last = len(api.asked) - api.asked[::-1].index(key)
        assert last == 5 + 3 * (COMPARISONS - 1)
        assert len(set(api.asked[last:])) >= 3
        assert len(set(api.asked)) > ENOUGH == 40

    def test_with_many_recent_requests_only_similar_pages_are_requested(
        self, api: Api, lately: FlakinessWindow
    ) -> None:
        for key in pages(100):
            lately.record(key.id, succeeded=True)
        api.is_down = lambda asked: asked == KEY
        with pytest.raises(Poison):
            api.fetch(KEY)
        assert len(api.asked) == 5 + 3 * COMPARISONS

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
    def test_no_page_is_poison_while_part_of_the_api_is_down(
        self, api: Api, is_down: Callable[[PageKey | MovieKey], bool]
    ) -> None:
        """Nothing else was asked for lately: this is the last page of a backfill."""
        api.is_down = is_down
        for _ in range(50):
            with pytest.raises(NotNow, match="fails as well"):
                api.fetch(KEY)

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
    def test_no_page_is_poison_while_some_queries_fail(self, api: Api, share: float) -> None:
        api.is_down = lambda key: hashed(key, share)
        stored = 0
        for key in pages(3000):
            try:
                stored += api.fetch(key) == "page"
            except NotNow:
                continue
        assert stored > 0.7 * (1 - share) * 3000

    def test_no_movie_is_poison_while_half_of_them_fail(self, api: Api) -> None:
        api.is_down = lambda key: hashed(key, 0.5)
        for number in range(1, 1000):
            try:
                api.fetch(MovieKey(number))
            except NotNow:
                continue

    def test_no_page_is_poison_while_half_of_all_responses_fail(self, api: Api) -> None:
        dice = random.Random(5)  # noqa: S311 -- no secret
        api.is_down = lambda _: dice.random() < 0.5
        for key in pages(2000):
            try:
                api.fetch(key)
            except NotNow:
                continue

    def test_no_page_is_poison_while_others_failed_recently(
        self, api: Api, lately: FlakinessWindow
    ) -> None:
        for key in pages(100):
            lately.record(key.id, succeeded=key.genre_id != 35)
        for number in range(20):
            lately.record(f"35:1999:{number}", succeeded=False)
        api.is_down = lambda asked: asked == KEY
        with pytest.raises(NotNow, match="now and then"):
            api.fetch(KEY)

    def test_many_broken_pages_all_become_poison(self, api: Api) -> None:
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

    def test_slow_failures_are_compared_at_once(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """Three answers that drip for 12 s are all there is time for."""
        monkeypatch.setattr(blame, "LONG_S", 0.0)
        api.is_down = lambda asked: asked == KEY
        with pytest.raises(Poison, match="3 tries"):
            api.fetch(KEY)

    def test_pauses_grow_between_attempts_and_precede_a_requeue(self, api: Api) -> None:
        api.is_down = lambda _: True
        with pytest.raises(NotNow):
            api.fetch(KEY)
        assert [round(rest, 1) for rest in api.rests] == [0.5, 1.0, blame.BACK_S]

    def test_a_refusal_in_tmdbs_words_is_an_answer(self, api: Api, lately: FlakinessWindow) -> None:
        def ask(_: float) -> str:
            raise Rejected("HTTP 404: no")

        for key in pages(30):
            with pytest.raises(Rejected):
                fetch(ask, lambda: False, Deadlines.from_now(), key)
        assert lately.others("") == [True] * len(set(pages(30)))
        assert api.asked == []


class TestLately:
    def test_what_was_long_ago_tells_nothing(self) -> None:
        lately = FlakinessWindow(life_s=0.0)
        for number in range(50):
            lately.note(str(number), well=False)
        assert lately.others("") == []

    def test_each_counts_once_by_its_last_word_and_the_page_itself_not(self, lately: FlakinessWindow) -> None:
        for well in (False, True):
            lately.record("one", succeeded=well)
            lately.record("another", succeeded=not well)
            lately.record("itself", succeeded=False)
        assert lately.others("itself") == [True, False]

    def test_it_forgets_the_oldest(self) -> None:
        lately = FlakinessWindow(length=30)
        for number in range(100):
            lately.note(str(number), well=number > 69)
        assert lately.others("") == [True] * 30


def test_without_a_key_five_failures_are_poison(api: Api) -> None:
    with pytest.raises(Poison, match="5 tries: HTTP 500"):
        fetch(broken)
    assert api.asked == []


def test_a_429_is_waited_out() -> None:
    answers: Iterator[Exception | None] = iter([*[RateLimited(None)] * 20, None])

    def ask(_: float) -> str:
        if (trouble := next(answers)) is not None:
            raise trouble
        return "page"

    assert fetch(ask) == "page"


def test_what_is_done_is_not_asked_for() -> None:
    assert fetch(broken, lambda: True, Deadlines.from_now(), KEY) is None


def test_no_attempt_begins_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(attempts, "time", clock)
    monkeypatch.setattr(blame, "time", clock)
    begun: list[float] = []

    def drips(_: float) -> str:
        begun.append(now[0])
        now[0] += 12.0
        raise ApiFailure("ReadTimeout")

    monkeypatch.setattr(blame, "LONG_S", float("inf"))
    with pytest.raises(NotNow, match="no time"):
        fetch(drips, lambda: False, Deadlines.from_now(), KEY)
    assert begun == [0.0, 12.0, 24.0]


def test_storage_is_retried_while_mongodb_is_unavailable() -> None:
    answers: Iterator[Exception | None] = iter([MongoUnavailable("away"), MongoUnavailable("away"), None])

    def save() -> str:
        if (trouble := next(answers)) is not None:
            raise trouble
        return "saved"

    assert retry_storage(save, time.monotonic() + 60) == "saved"


def test_storage_is_retried_only_until_the_deadline() -> None:
    def save() -> str:
        raise MongoUnavailable("away")

    with pytest.raises(MongoUnavailable):
        retry_storage(save, time.monotonic() + 0.2)
