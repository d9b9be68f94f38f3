"""Labels of pages, from what is stored."""

import pymongo

from tests.support.pages import AT, put
from worker.keys import Cell, ChangesKey, Fetch, Key, MovieKey, PageKey, PopularKey, TotalsKey
from worker.labels import Labels
from worker.storage.database import Storage

CELL = Cell(18, "1999")
KEYS: list[Key] = [
    *(CELL.page(number) for number in (1, 2, 3)),
    PageKey(7, "1999", 2),
    PageKey(0, "1999", 1),
    TotalsKey(18, "1999"),
    PopularKey(2),
    ChangesKey("2026-05-01", 3),
    MovieKey(603),
]


def test_a_label_names_genre_page_and_total_as_far_as_known(storage: Storage) -> None:
    storage.genres.save({18: "Drama"}, AT)
    put(storage, CELL.page(1), 37)
    assert [label for _, label in Labels(storage).of(map(Fetch, KEYS))] == [
        "Drama 1999, page 1 (18:1999:1)",
        "Drama 1999, page 2 of 37 (18:1999:2)",
        "Drama 1999, page 3 of 37 (18:1999:3)",
        "genre 7 1999, page 2 (7:1999:2)",
        "Any genre 1999, page 1 (0:1999:1)",
        "Drama 1999, totals (totals:18:1999)",
        "Popular, page 2 (popular:2)",
        "Changes of 2026-05-01, page 3 (changes:2026-05-01:3)",
        "movie:603",
    ]


def test_labels_say_less_while_mongodb_is_unavailable() -> None:
    client: pymongo.MongoClient[dict[str, object]]
    with pymongo.MongoClient("mongodb://127.0.0.1:1/reelhaul", serverSelectionTimeoutMS=50) as client:
        labels = Labels(Storage(client.get_default_database())).of([Fetch(CELL.page(2))])
        assert [label for _, label in labels] == ["genre 18 1999, page 2 (18:1999:2)"]
