"""Which changed movies must be fetched since when, however the readings of the change feed fall."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.requests.changes import LONGEST_GAP, Changes, first_day
from worker.keys import ChangesKey
from worker.storage.changes import end_of, needed_since
from worker.storage.mongo import Document

START = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENTS = st.integers(0, 8 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes))


class Feed:
    """The change feed, two ids per page, and what a fleet that reads it would store and fetch."""

    def __init__(self, changes: list[tuple[int, datetime]], *, with_next_day: bool = True) -> None:
        self._changes, self._last = changes, DAY if with_next_day else timedelta(0)
        self.fetched_at = dict.fromkeys(range(1, 8), START)
        self.fetches: list[int] = []
        self._records: defaultdict[str, dict[ChangesKey, Document]] = defaultdict(dict)

    def read(self, first: date, now: datetime, *, again: bool = False) -> None:
        """Read the days from the first to today, then fetch what must be fetched, a minute later."""
        for key in Changes(first, again, False, now).days:
            self._save(key.day, now)
            needed = needed_since(key.day, self._records[key.day].items(), now if again else None)
            late = [id_ for id_, moment in needed.items() if self.fetched_at[id_] < moment]
            self.fetched_at |= dict.fromkeys(late, now + timedelta(minutes=1))
            self.fetches += late

    def _save(self, day: str, now: datetime) -> None:
        """As ChangeStore.save does."""
        first = date.fromisoformat(day)
        ids = sorted(
            {id_ for id_, at in self._changes if at <= now and first <= at.date() <= first + self._last}
        )
        for number, start in enumerate(range(0, max(1, len(ids)), 2), start=1):
            record = self._records[day].setdefault(ChangesKey(day, number), {"first_listed": {}})
            record |= {"movie_ids": ids[start : start + 2], "fetched_at": now}
            if now < end_of(day):
                for id_ in record["movie_ids"]:
                    record["first_listed"].setdefault(str(id_), now)


@given(
    st.lists(st.tuples(st.integers(1, 7), MOMENTS), max_size=20),
    st.lists(MOMENTS, max_size=12).map(sorted),
    st.booleans(),
)
def test_every_change_is_stored_once_its_day_is_over(
    changes: list[tuple[int, datetime]], readings: list[datetime], with_next_day: bool
) -> None:
    feed, unread = Feed(changes, with_next_day=with_next_day), START.date()
    for now in [*readings, START + 9 * DAY]:
        feed.read(first_day(unread, now), now)
        unread = now.date()
    for id_, at in changes:
        assert feed.fetched_at[id_] >= at
    for id_ in range(1, 8):
        days = {at.date() for changed, at in changes if changed == id_}
        # Once when it is first listed, once when its day is over.
        assert feed.fetches.count(id_) <= 2 * len(days)


def test_a_movie_listed_today_is_fetched_once_however_often_the_feed_is_read() -> None:
    changed_at = START + timedelta(hours=2)
    feed = Feed([(3, changed_at)])
    for minutes in (10, 70, 130):
        feed.read(START.date(), changed_at + timedelta(minutes=minutes))
    assert feed.fetches == [3]


def test_a_movie_that_moves_to_another_page_is_not_fetched_again() -> None:
    feed = Feed([(5, START), (1, START + timedelta(hours=2)), (2, START + timedelta(hours=2))])
    feed.read(START.date(), START + timedelta(hours=1))
    feed.read(START.date(), START + timedelta(hours=3))
    assert feed.fetches == [5, 1, 2]


def test_with_again_a_movie_listed_today_is_fetched_at_each_reading() -> None:
    feed = Feed([(3, START)])
    for hours in (3, 4):
        feed.read(START.date(), START + timedelta(hours=hours), again=True)
    assert feed.fetches == [3, 3]


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_a_reading_begins_a_day_before_the_first_unread_one_but_never_before_tmdbs_feed(
    now: datetime, ago: timedelta
) -> None:
    unread = (now - ago).date()
    assert first_day(unread, now) == max(unread, (now - LONGEST_GAP).date()) - DAY
    days = [day.day for day in Changes(first_day(unread, now), False, False, now).days]
    assert (days[0], days[-1]) == (f"{first_day(unread, now)}", f"{now.date()}")
    assert days == sorted(set(days))
    assert len(days) == (now.date() - first_day(unread, now)).days + 1


@pytest.mark.parametrize(
    ("fetched_at", "needed"),
    [
        (START, {1: START - timedelta(hours=1)}),
        (datetime(2026, 3, 2, tzinfo=UTC), {1: datetime(2026, 3, 2, tzinfo=UTC)}),
    ],
)
def test_a_movie_must_be_fetched_after_its_day_or_since_it_was_listed_today(
    fetched_at: datetime, needed: dict[int, datetime]
) -> None:
    listed = {"1": START - timedelta(hours=1)}
    record = {"fetched_at": fetched_at, "movie_ids": [1], "first_listed": listed}
    assert needed_since("2026-03-01", [(ChangesKey("2026-03-01", 1), record)], None) == needed
