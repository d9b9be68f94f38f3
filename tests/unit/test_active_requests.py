"""Which requests workers take for wanted, and how often they look."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker import active_requests
from worker.active_requests import DOUBTFUL_S, WANTED_S, ActiveRequests


class Fleet:
    """What ActiveRequests reads: the saved requests, the clock, what the fleet was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.saved = {"aaaaaaaa", "bbbbbbbb"}
        self.reads, self.now_s = 0, 1_000.0
        self.limiter = cast("Any", SimpleNamespace(cancellations=0, subscribed=True))
        self.storage = cast("Any", SimpleNamespace(requests=SimpleNamespace(active_ids=self._active_ids)))
        monkeypatch.setattr(active_requests, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.requests = ActiveRequests(self.storage, self.limiter)

    def _active_ids(self) -> list[str]:
        self.reads += 1
        return list(self.saved)

    def cancel(self, request_id: str) -> None:
        self.saved.remove(request_id)
        self.limiter.cancellations += 1


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(monkeypatch)


def test_a_thousand_messages_are_one_reading(fleet: Fleet) -> None:
    assert all(fleet.requests.includes(id_) for id_ in ["aaaaaaaa", "bbbbbbbb"] * 500)
    fleet.cancel("aaaaaaaa")
    assert not any(fleet.requests.includes("aaaaaaaa") for _ in range(1_000))
    assert fleet.requests.includes("bbbbbbbb")
    assert fleet.reads == 2


def test_what_belongs_to_no_request_is_always_wanted(fleet: Fleet) -> None:
    assert fleet.requests.includes("")
    assert fleet.reads == 0


def test_a_request_saved_after_the_last_reading_is_wanted(fleet: Fleet) -> None:
    assert not fleet.requests.includes("cccccccc")
    fleet.saved.add("dddddddd")
    assert fleet.requests.includes("dddddddd")


def test_two_cancelled_requests_do_not_make_each_other_be_read(fleet: Fleet) -> None:
    assert not any(fleet.requests.includes(id_) for id_ in ["cccccccc", "dddddddd"] * 500)
    assert fleet.reads == 2


def test_a_cancelled_request_that_is_resumed_is_wanted_soon(fleet: Fleet) -> None:
    fleet.cancel("aaaaaaaa")
    assert not fleet.requests.includes("aaaaaaaa")
    fleet.saved.add("aaaaaaaa")
    fleet.now_s += DOUBTFUL_S
    assert fleet.requests.includes("aaaaaaaa")


@pytest.mark.parametrize(("subscribed", "believed_s"), [(True, WANTED_S), (False, DOUBTFUL_S)])
def test_a_cancellation_that_nobody_heard_of_is_found(
    fleet: Fleet, subscribed: bool, believed_s: float
) -> None:
    fleet.limiter.subscribed = subscribed
    assert fleet.requests.includes("aaaaaaaa")
    fleet.saved.remove("aaaaaaaa")
    fleet.now_s += 0.9 * believed_s
    assert fleet.requests.includes("aaaaaaaa")
    fleet.now_s += 0.2 * believed_s
    assert not fleet.requests.includes("aaaaaaaa")


def test_what_is_said_during_a_reading_counts_as_unheard(fleet: Fleet) -> None:
    def read_too_early() -> list[str]:
        found = fleet._active_ids()
        if fleet.reads == 1:
            fleet.cancel("aaaaaaaa")
        return found

    fleet.storage.requests.active_ids = read_too_early
    assert fleet.requests.includes("aaaaaaaa")
    assert not fleet.requests.includes("aaaaaaaa")
