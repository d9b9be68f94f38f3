"""The list item that details imply."""

from worker.storage.movies import list_item


def test_a_list_item_keeps_unknown_fields() -> None:
    details = {"id": 1, "softcore": False, "new": 1, "budget": 5, "genres": [], "watch/providers": {}}
    assert list_item(details) == {"id": 1, "softcore": False, "new": 1, "genre_ids": []}
