"""Names of genres."""

from datetime import timedelta

from tests.support.pages import AT
from worker.storage.database import Storage


def test_names_are_sorted_and_have_an_age(storage: Storage) -> None:
    storage.genres.save({18: "Drama", 35: "Comedy"}, AT)
    storage.genres.save({18: "Dramas"}, AT + timedelta(days=1))
    assert list(storage.genres.names().items()) == [(35, "Comedy"), (18, "Dramas")]
    assert storage.genres.names(AT + timedelta(days=1)) == {18: "Dramas"}
