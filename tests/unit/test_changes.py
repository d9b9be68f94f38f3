"""Which days are read, and that no change is missed and none fetched twice too often, however runs fall."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.schedule.changes import LONGEST_GAP, asked_since, days_to_read, read_day
from worker.records import Changes

START = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENTS = st.integers(0, 8 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes))


class Shelf:
    """What `Movies` does, in memory; movies 1 to 5 are stored."""

    def __init__(self) -> None:
        self.fetched_at = dict.fromkeys(range(1, 6), START)
        self.demanded: dict[int, datetime] = {}
        self.to_do: set[int] = set()
        self.fetches: list[tuple[int, datetime]] = []

    def want(self, ids: Iterable[int], since: datetime) -> int:  # noqa: ARG002 -- as Movies'
        self.to_do |= set(ids)
        return len(self.to_do)

    def stale(self, ids: Iterable[int], since: datetime) -> set[int]:
        return {id_ for id_ in ids if id_ not in self.fetched_at or self.fetched_at[id_] < since}

    def not_demanded(self, ids: Iterable[int], since: datetime) -> set[int]:
        return {id_ for id_ in ids if id_ not in self.demanded or self.demanded[id_] < since}

    def demand(self, ids: Iterable[int], since: datetime) -> None:
        self.demanded |= {id_: max(since, self.demanded.get(id_, since)) for id_ in ids}

    def forget_demands(self, before: datetime) -> None:
        self.demanded = {id_: since for id_, since in self.demanded.items() if since >= before}

    def fetch_all(self, at: datetime) -> None:
        for id_ in self.to_do:
            self.fetched_at[id_] = at
            self.fetches.append((id_, at))
        self.to_do = set()


def feed(changes: list[tuple[int, datetime]], now: datetime, *, whole_last_day: bool) -> Any:
    """/movie/changes at a moment: two ids a page, and one reading or the other of where a range ends."""

    def ask(day: date, page: int) -> Changes:
        last = day + DAY if whole_last_day else day
        ids = sorted({id_ for id_, at in changes if at <= now and day <= at.date() <= last})
        return Changes(ids[2 * page - 2 : 2 * page], max(1, -(-len(ids) // 2)), now)

    return ask


def run(shelf: Shelf, ask: Any, since: datetime, now: datetime) -> None:
    for day in days_to_read(since, now):
        read_day(ask, cast("Storage", shelf), day, now)
    shelf.fetch_all(now + timedelta(minutes=1))


@given(
    st.lists(st.tuples(st.integers(1, 7), MOMENTS), max_size=20),
    st.lists(MOMENTS, max_size=12).map(sorted),
    st.booleans(),
)
def test_once_a_day_is_over_its_changes_are_stored(
    changes: list[tuple[int, datetime]], runs: list[datetime], whole_last_day: bool
) -> None:
    shelf, cursor = Shelf(), START
    for now in [*runs, START + 9 * DAY]:
        run(shelf, feed(changes, now, whole_last_day=whole_last_day), cursor, now)
        cursor = now
    for id_, at in changes:
        assert shelf.fetched_at[id_] >= at
    for id_ in range(1, 8):
        days = {at.date() for changed, at in changes if changed == id_}
        # Once when it is first seen, once when its day is over.
        assert sum(fetched == id_ for fetched, _ in shelf.fetches) <= 2 * len(days)


def test_what_is_first_seen_today_is_fetched_at_once_and_only_once_today() -> None:
    shelf, at = Shelf(), START + timedelta(hours=2)
    for minutes in (10, 70, 130):
        now = at + timedelta(minutes=minutes)
        run(shelf, feed([(3, at)], now, whole_last_day=True), START, now)
    assert [id_ for id_, _ in shelf.fetches] == [3]


def test_asked_again_what_was_seen_today_is_fetched_again() -> None:
    shelf, now = Shelf(), START + timedelta(hours=3)
    ask = feed([(3, START)], now, whole_last_day=True)
    for _ in range(2):
        read_day(ask, cast("Storage", shelf), now.date(), now, again=True)
        shelf.fetch_all(now)
    assert [id_ for id_, _ in shelf.fetches] == [3, 3]


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_the_days_reach_a_day_further_back_than_the_cursor_and_no_further_than_tmdb_tells(
    now: datetime, ago: timedelta
) -> None:
    days = days_to_read(now - ago, now)
    assert days[-1] == now.date()
    assert days == sorted(set(days))
    assert days[0] == (now - min(ago, LONGEST_GAP) - DAY).date()
    assert (days[-1] - days[0]).days + 1 == len(days)


@pytest.mark.parametrize(
    ("day", "since"),
    [
        (date(2026, 2, 27), datetime(2026, 2, 28, tzinfo=UTC)),
        (date(2026, 2, 28), datetime(2026, 3, 1, tzinfo=UTC)),
        (date(2026, 3, 1), START),
    ],
)
def test_a_past_day_asks_for_its_end_and_today_for_now(day: date, since: datetime) -> None:
    assert asked_since(day, START) == since
