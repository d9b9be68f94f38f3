"""Progress through the change feed."""

from datetime import UTC, datetime, timedelta

from worker.storage.database import Storage

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_read_to_never_moves_back(storage: Storage) -> None:
    assert storage.change_feed.read_to() is None
    for moment in (AT, AT + HOUR, AT - HOUR):
        storage.change_feed.set_read_to(moment)
    assert storage.change_feed.read_to() == AT + HOUR


def test_handled_changes_are_kept_with_their_moment(storage: Storage) -> None:
    storage.change_feed.mark_handled([1, 2], AT)
    storage.change_feed.mark_handled([1], AT - HOUR)
    assert storage.change_feed.not_handled([1, 2, 3], AT) == {3}
    assert storage.change_feed.not_handled([1, 2, 3], AT + HOUR) == {1, 2, 3}
    storage.change_feed.forget_handled(AT + HOUR)
    assert storage.change_feed.not_handled([1, 2, 3], AT) == {1, 2, 3}
