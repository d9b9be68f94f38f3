"""Two lists of ids side by side, and the day of a list."""

from array import array
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from producer.audit import differ, made_at
from worker.storage.id_export import Loaded

IDS = st.sets(st.integers(1, 2**63 - 1) | st.integers(1, 50))


@given(IDS, IDS)
def test_ids_in_only_one_of_two_lists(listed: set[int], stored: set[int]) -> None:
    missing, unlisted = differ(array("q", sorted(listed)), iter(sorted(stored)))
    assert missing.tolist() == sorted(listed - stored)
    assert unlisted.tolist() == sorted(stored - listed)


def test_a_list_is_dated_by_its_name_or_by_its_load() -> None:
    at = datetime(2026, 5, 16, 9, tzinfo=UTC)
    dated, undated, no_day = (
        Loaded(1, 1, name, at)
        for name in ("https://host/p/movie_ids_05_15_2026.json.gz", "ids.gz", "movie_ids_13_40_2026.json.gz")
    )
    assert made_at(dated) == datetime(2026, 5, 15, tzinfo=UTC)
    assert made_at(undated) == made_at(no_day) == at
