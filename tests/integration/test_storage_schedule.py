"""Schedule entries: claims, and the place of a reading of changes."""

from datetime import datetime, timedelta

from tests.support.pages import AT, in_threads
from worker.storage.database import Storage

HOUR = timedelta(hours=1)


def test_an_entry_is_claimed_once_a_period(storage: Storage) -> None:
    assert storage.schedule.claim("sweep", HOUR, AT)
    assert not storage.schedule.claim("sweep", HOUR, AT)
    assert not storage.schedule.claim("sweep", HOUR, AT + timedelta(minutes=59))
    assert storage.schedule.claim("refresh", HOUR, AT)
    assert storage.schedule.claim("sweep", HOUR, AT + HOUR)


def test_one_of_eight_concurrent_claims_succeeds(storage: Storage) -> None:
    for day in range(5):
        claims: list[bool] = []

        def claim(at: datetime, claims: list[bool] = claims) -> None:
            claims.append(storage.schedule.claim("sweep", HOUR, at))

        assert in_threads([[AT + timedelta(days=day)]] * 8, claim) == []
        assert sorted(claims) == [False] * 7 + [True]
