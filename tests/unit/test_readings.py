"""How a reading of changes goes from page to page."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from producer.schedule.change_tasks import Place

FIRST = date(2026, 2, 26)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_every_page_of_every_day_is_read_once_in_order(totals: list[int]) -> None:
    last = FIRST + timedelta(days=len(totals) - 1)
    here: Place | None = Place(7, FIRST.isoformat(), 1)
    seen = []
    while here:
        seen.append((here.day, here.page))
        here = here.following(totals[(date.fromisoformat(here.day) - FIRST).days], last)
    assert seen == [
        ((FIRST + timedelta(days=number)).isoformat(), page)
        for number, total in enumerate(totals)
        for page in range(1, max(total, 1) + 1)
    ]
