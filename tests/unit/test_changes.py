"""Which pages of the change feed a reading gets, and which movies it requests, however the readings fall."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.schedule.changes import LONGEST_GAP, Place, fetched_since, read_page
from worker.records import Changes
from worker.storage.database import Storage

START = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENTS = st.integers(0, 8 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes))


class MemoryStorage:
    """The parts of Storage that reading the change feed needs, in memory; movies 1 to 5 are stored."""

    def __init__(self) -> None:
        self.movies = self.change_feed = self.movie_requests = self
        self.fetched_at = dict.fromkeys(range(1, 6), START)
        self.handled: dict[int, datetime] = {}
        self.requested: set[int] = set()
        self.fetches: list[int] = []

    def add(self, ids: Iterable[int], since: datetime) -> None:  # noqa: ARG002 -- as MovieRequestStore's
        self.requested |= set(ids)

    def not_fetched_since(self, ids: Iterable[int], moment: datetime) -> set[int]:
        return {id_ for id_ in ids if id_ not in self.fetched_at or self.fetched_at[id_] < moment}

    def not_handled(self, ids: Iterable[int], moment: datetime) -> set[int]:
        return {id_ for id_ in ids if id_ not in self.handled or self.handled[id_] < moment}

    def mark_handled(self, ids: Iterable[int], until: datetime) -> None:
        self.handled |= {id_: max(until, self.handled.get(id_, until)) for id_ in ids}

    def fetch_requested(self, at: datetime) -> None:
        self.fetched_at |= dict.fromkeys(self.requested, at)
        self.fetches += self.requested
        self.requested = set()


def feed(changes: list[tuple[int, datetime]], now: datetime, *, with_next_day: bool = True) -> Any:
    """/movie/changes at a moment, two ids per page; TMDB does not document where a range ends."""

    def ask(day: date, page: int) -> Changes:
        last = day + DAY if with_next_day else day
        ids = sorted({id_ for id_, at in changes if at <= now and day <= at.date() <= last})
        return Changes(ids[2 * page - 2 : 2 * page], max(1, -(-len(ids) // 2)), now)

    return ask


def read(storage: MemoryStorage, ask: Any, since: datetime, now: datetime, *, again: bool = False) -> None:
    """Read the feed to its end, then fetch what was requested."""
    place: Place | None = Place.first(since, now)
    while place:
        page = read_page(ask, cast("Storage", storage), place, again=again)
        place = place.following(page.total_pages)
    storage.fetch_requested(now + timedelta(minutes=1))


@given(
    st.lists(st.tuples(st.integers(1, 7), MOMENTS), max_size=20),
    st.lists(MOMENTS, max_size=12).map(sorted),
    st.booleans(),
)
def test_every_change_is_stored_once_its_day_is_over(
    changes: list[tuple[int, datetime]], readings: list[datetime], with_next_day: bool
) -> None:
    storage, read_to = MemoryStorage(), START
    for now in [*readings, START + 9 * DAY]:
        read(storage, feed(changes, now, with_next_day=with_next_day), read_to, now)
        read_to = now
    for id_, at in changes:
        assert storage.fetched_at[id_] >= at
    for id_ in range(1, 8):
        days = {at.date() for changed, at in changes if changed == id_}
        # Once when it is first listed, once when its day is over.
        assert storage.fetches.count(id_) <= 2 * len(days)


def test_a_movie_listed_today_is_fetched_once_however_often_the_feed_is_read() -> None:
    storage, changed_at = MemoryStorage(), START + timedelta(hours=2)
    for minutes in (10, 70, 130):
        now = changed_at + timedelta(minutes=minutes)
        read(storage, feed([(3, changed_at)], now), START, now)
    assert storage.fetches == [3]


def test_with_again_a_movie_listed_today_is_fetched_at_each_reading() -> None:
    storage, now = MemoryStorage(), START + timedelta(hours=3)
    for _ in range(2):
        read(storage, feed([(3, START)], now), START, now, again=True)
    assert storage.fetches == [3, 3]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_every_page_of_every_day_is_read_once_in_order(totals: list[int]) -> None:
    first, now = START.date(), START + (len(totals) - 1) * DAY
    place: Place | None = Place(ms(now), first.isoformat(), 1)
    seen = []
    while place:
        seen.append((place.day, place.page))
        place = place.following(totals[(place.listed_on - first).days])
    assert seen == [
        (str(first + number * DAY), page)
        for number, total in enumerate(totals)
        for page in range(1, max(total, 1) + 1)
    ]


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_a_reading_begins_a_day_before_the_last_one_but_never_before_tmdbs_feed(
    now: datetime, ago: timedelta
) -> None:
    assert Place.first(now - ago, now).listed_on == (now - min(ago, LONGEST_GAP) - DAY).date()


@pytest.mark.parametrize(
    ("day", "since"),
    [
        (date(2026, 2, 27), datetime(2026, 2, 28, tzinfo=UTC)),
        (date(2026, 2, 28), datetime(2026, 3, 1, tzinfo=UTC)),
        (date(2026, 3, 1), START),
    ],
)
def test_a_movie_must_be_fetched_after_its_day_or_if_listed_today_now(day: date, since: datetime) -> None:
    assert fetched_since(Place(ms(START), day.isoformat(), 1)) == since


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
