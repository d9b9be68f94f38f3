"""What a slot makes of trouble: again, back to the queue, or poison."""

import random
import time
from collections.abc import Iterator

import pytest

from worker import attempts
from worker.attempts import TRIES, Lately, fetch, while_away
from worker.errors import ApiTrouble, NotNow, Poison, RateLimited, StoreAway


@pytest.fixture(autouse=True)
def lately(monkeypatch: pytest.MonkeyPatch) -> Lately:
    fresh = Lately()
    monkeypatch.setattr(attempts, "_lately", fresh)
    return fresh


def broken(_: float) -> str:
    raise ApiTrouble("HTTP 500")


def test_what_fails_every_time_is_poison_after_five_tries() -> None:
    asked: list[float] = []

    def ask(deadline: float) -> str:
        asked.append(deadline)
        raise ApiTrouble("HTTP 500")

    with pytest.raises(Poison, match="5 tries: HTTP 500"):
        fetch(ask)
    assert len(asked) == TRIES


def test_a_refusal_is_no_try() -> None:
    answers: Iterator[Exception | None] = iter([*[RateLimited(None)] * 20, None])

    def ask(_: float) -> str:
        if (trouble := next(answers)) is not None:
            raise trouble
        return "page"

    assert fetch(ask) == "page"


def test_while_the_api_fails_half_of_all_requests_no_page_is_blamed() -> None:
    dice = random.Random(5)  # noqa: S311 -- no secret

    def ask(_: float) -> str:
        if dice.random() < 0.5:
            raise ApiTrouble("HTTP 500")
        return "page"

    for _ in range(4):  # a fleet that has been at work
        fetch(ask)
    for _ in range(500):
        try:
            fetch(ask)
        except NotNow as trouble:
            assert "now and then" in str(trouble)  # noqa: PT017 -- Poison is no NotNow, and would fail the test


def test_pages_that_never_succeed_are_blamed_however_many_they_are(lately: Lately) -> None:
    for _ in range(30):
        fetch(lambda _: "page")
    for _ in range(30):
        with pytest.raises(Poison):
            fetch(broken)
    assert not lately.is_flaky()


def test_what_was_long_ago_tells_nothing() -> None:
    lately = Lately(life_s=0.0)
    for _ in range(20):
        lately.succeeded(retried=True)
    assert not lately.is_flaky()


def test_what_is_done_is_not_asked_for() -> None:
    assert fetch(broken, lambda: True) is None


def test_what_is_fetched_waits_for_mongodb() -> None:
    answers: Iterator[Exception | None] = iter([StoreAway("away"), StoreAway("away"), None])

    def save() -> str:
        if (trouble := next(answers)) is not None:
            raise trouble
        return "saved"

    assert while_away(save, time.monotonic() + 60) == "saved"


def test_but_no_longer_than_until_its_deadline() -> None:
    def save() -> str:
        raise StoreAway("away")

    with pytest.raises(StoreAway):
        while_away(save, time.monotonic() + 0.2)
