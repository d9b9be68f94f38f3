"""Certificates: what their root covers, and that each difference is found and named."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from producer.certificate import (
    compare,
    compare_movies,
    make,
    merkle_root,
    read,
    read_export,
    read_stored,
    write,
)
from producer.export import write_lines
from sandbox.servers import EmbeddedMongo
from tests.support.pages import page_of
from tests.support.stage import Stage
from worker.errors import UsageError
from worker.keys import MAX_PAGE, Cell
from worker.storage.database import Storage

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
DRAMA, WAR = Cell(18, "2024"), Cell(10752, "2024")
#: A cell that TMDB does not show whole: it is read in halves.
LARGE = Cell(35, "2024")
CELLS = (DRAMA, WAR, LARGE)


def movie(id_: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "title": f"Movie {id_} ü",
        "vote_average": 7.5,
        "popularity": 2,
        "genre_ids": [18],
        **fields,
    }


def haul(storage: Storage, at: datetime = AT, *, backwards: bool = False) -> None:
    """Store what TMDB shows of the cells; in the other order if `backwards`."""
    pages = [
        (DRAMA.page(1), range(1, 21), 2),
        (DRAMA.page(2), range(21, 26), 2),
        (WAR.page(1), range(5, 8), 1),
        (LARGE.page(1), range(20), MAX_PAGE + 1),
        *(
            (half.page(1), range(100 * number, 100 * number + 20), 1)
            for number, half in enumerate(LARGE.parts(MAX_PAGE + 1), 1)
        ),
    ]
    for number, (key, ids, total) in enumerate(reversed(pages) if backwards else pages):
        movies = [movie(id_) for id_ in ids if id_]
        page = page_of(movies, number=key.page, total_pages=total, at=at + number * timedelta(minutes=1))
        storage.pages.save(key, page)


@pytest.fixture
def other(mongo_server: EmbeddedMongo) -> Iterator[Storage]:
    """A second store."""
    with pymongo.MongoClient[dict[str, Any]](mongo_server.url, tz_aware=True, tzinfo=UTC) as client:
        name = f"reelhaul_test_{uuid4().hex[:12]}"
        yield Storage(client[name])
        client.drop_database(name)


def differences(certificate: dict[str, Any], storage: Storage, folder: Path) -> list[str]:
    write(certificate, folder / "certificate.json")
    expected = read(folder / "certificate.json")
    return [" ".join(found) for found in compare(expected, read_stored(storage, expected.pages))]


def test_two_hauls_of_the_same_catalogue_have_the_same_root(
    storage: Storage, other: Storage, tmp_path: Path
) -> None:
    haul(storage)
    haul(other, AT + timedelta(days=40), backwards=True)
    # Delivered once more, and late.
    other.pages.save(DRAMA.page(2), page_of([movie(id_) for id_ in range(21, 26)], total_pages=2, at=AT))
    first, second = (make(store, cells, "35/s") for store, cells in ((storage, CELLS), (other, CELLS[::-1])))
    assert first["root"] == second["root"]
    assert first["fetched"] != second["fetched"]
    assert [row["cell"] for row in first["cells"]] == ["18:2024", "35:2024", "10752:2024"]
    assert [page["page"] for page in first["cells"][1]["pages"]] == [
        LARGE.page(1).id, *(half.page(1).id for half in LARGE.parts(MAX_PAGE + 1)),
    ]  # fmt: skip
    assert differences(first, other, tmp_path) == []


@pytest.mark.parametrize(
    ("collection", "id_", "change", "found"),
    [
        ("movies", 21, {"title": "Movie 21 u"}, ["movie 21 has changed"]),
        ("movies", 21, {"vote_average": 7}, ["movie 21 has changed"]),
        ("movies", 21, {"new": None}, ["movie 21 has changed"]),
        (
            "pages",
            "18:2024:2",
            {"movie_ids": [22, 21, 23, 24, 25]},
            ["page 18:2024:2 has the same movies in another order"],
        ),
        (
            "pages",
            "18:2024:2",
            {"movie_ids": [21, 22, 23, 24, 7]},
            ["page 18:2024:2 lacks 25, has 7 as well", "movie 25 is missing"],
        ),
        (
            "pages",
            "10752:2024:1",
            {"total_results": 4},
            ["cell 10752:2024 3 movies on 1 pages, now 4 movies on 1 pages"],
        ),
    ],
)
def test_a_change_gives_another_root_and_is_named(  # noqa: PLR0917
    storage: Storage,
    tmp_path: Path,
    collection: str,
    id_: object,
    change: dict[str, Any],
    found: Sequence[str],
) -> None:
    haul(storage)
    before = make(storage, CELLS, "35/s")
    storage.mongo.database[collection].update_one({"_id": id_}, {"$set": change})
    assert make(storage, CELLS, "35/s")["root"] != before["root"]
    assert differences(before, storage, tmp_path) == found


def test_times_and_what_belongs_to_no_cell_change_nothing(storage: Storage, tmp_path: Path) -> None:
    haul(storage)
    before = make(storage, CELLS, "35/s")
    later = AT + timedelta(days=3)
    storage.mongo.database["movies"].update_many({}, {"$set": {"_meta.fetched_at": later, "_meta.page": "x"}})
    storage.pages.save(Cell(18, "2020").page(1), page_of([movie(900)]))
    assert make(storage, CELLS, "1/s")["root"] == before["root"]
    assert differences(before, storage, tmp_path) == []


def test_pages_that_are_missing_or_more_are_named(storage: Storage, tmp_path: Path) -> None:
    haul(storage)
    before = make(storage, CELLS, "35/s")
    storage.mongo.database["pages"].delete_one({"_id": "18:2024:2"})
    assert "page 18:2024:2 is not stored" in differences(before, storage, tmp_path)
    lacking = make(storage, CELLS, "35/s")
    assert lacking["cells"][0]["problem"] == "1 of 2 pages of 18:2024 are not stored"
    haul(storage)
    assert "page 18:2024:2 is not in the certificate" in differences(lacking, storage, tmp_path)


def test_an_edit_by_hand_is_not_certified_in_silence(storage: Storage) -> None:
    haul(storage)
    assert make(storage, [WAR], "35/s")["proven"] is True
    storage.mongo.database["movies"].update_one({"_id": 6}, {"$set": {"title": "Edited"}})
    certificate = make(storage, [WAR], "35/s")
    assert (certificate["proven"], certificate["damaged"]) == (False, [6])


def test_an_export_is_compared_movie_by_movie(storage: Storage, tmp_path: Path) -> None:
    haul(storage)
    write(make(storage, CELLS, "35/s"), tmp_path / "certificate.json")
    expected = read(tmp_path / "certificate.json").hashes
    for name in ("movies.jsonl", "movies.jsonl.gz"):
        write_lines(storage.movies.each(), tmp_path / name)
        assert list(compare_movies(expected, read_export(tmp_path / name))) == []
    lines = (tmp_path / "movies.jsonl").read_text().splitlines()
    lines[3] = lines[3].replace("ü", "u")
    (tmp_path / "edited.jsonl").write_text("\n".join(lines[:-1]))
    found = [" ".join(one) for one in compare_movies(expected, read_export(tmp_path / "edited.jsonl"))]
    assert found == ["movie 4 has changed", "movie 219 is missing"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace('"distinct":3', '"distinct":4'), ""),
        (lambda text: text.replace('"movie_ids":[5,6,7]', '"movie_ids":[5,7,6]'), "damaged: its root is not"),
        (lambda text: text.replace('"total_results":3', '"total_results":2'), "damaged: its root is not"),
        (lambda text: text.replace('"certificate":1', '"certificate":2'), "certificate format 2, expected 1"),
        (lambda text: text[:-9], "not JSON; expected what `reelhaul verify --certificate` writes"),
        (lambda _: "[]", "not a certificate; expected what"),
        (lambda _: '{"certificate":1,"cells":[{"cell":"x"}],"movies":{},"root":""}', "not a certificate; "),
    ],
)  # fmt: skip
def test_a_damaged_certificate_is_refused(storage: Storage, tmp_path: Path, edit: Any, said: str) -> None:
    haul(storage)
    file = tmp_path / "certificate.json"
    write(make(storage, CELLS, "35/s"), file)
    file.write_text(edit(file.read_text()))
    if said:
        with pytest.raises(UsageError, match=said):
            read(file)
    else:
        read(file)


@pytest.mark.parametrize(
    ("size", "root"),
    [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ],
)
def test_the_merkle_root_is_that_of_certificate_transparency(size: int, root: str) -> None:
    """By the test vectors of its reference implementation."""
    values = (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
    leaves = [sha256(b"\0" + bytes.fromhex(value)).digest() for value in values]
    assert merkle_root(leaves[:size]).hex() == root


def test_the_commands(stage: Stage, tmp_path: Path) -> None:
    stage.emulator("--movies", "800")
    worker = stage.worker()
    years = ("--genres", "Drama,War", "--years", "2010..2020")
    assert stage.reelhaul("backfill", *years, "-q").returncode == 0
    certificate, export = str(tmp_path / "certificate.json"), str(tmp_path / "movies.jsonl.gz")
    written = stage.reelhaul("verify", "--certificate", certificate)
    assert written.returncode == 0, written.stderr
    root = json.loads(Path(certificate).read_text())["root"]
    assert f"root {root}\n" in written.stdout
    assert stage.reelhaul("export", export).returncode == 0
    worker.stop()
    # Offline: TMDB and Redis are not asked, and for an export not even MongoDB.
    nowhere = {"TMDB_BASE_URL": "http://127.0.0.1:9/3", "REDIS_URL": "redis://127.0.0.1:9/0"}
    stored = stage.reelhaul("verify", "--against", certificate, **nowhere)
    assert (stored.returncode, stored.stdout.strip().endswith(f"as certified, root {root}")) == (0, True)
    against = ("verify", "--against", certificate, "--export", export)
    exported = stage.reelhaul(*against, **nowhere, MONGO_URL="mongodb://127.0.0.1:9/none")
    assert (exported.returncode, exported.stdout) == (0, stored.stdout)
    some = stage.database["movies"].find_one()
    assert some
    stage.database["movies"].update_one({"_id": some["_id"]}, {"$set": {"title": "Edited"}})
    ended = stage.reelhaul("verify", "--against", certificate)
    assert ended.returncode == 1
    assert ended.stdout == f"movie {some['_id']} has changed\ndiffers: 1 movie\n"
    found = json.loads(stage.reelhaul("verify", "--against", certificate, "--json").stdout)
    assert found["differences"] == [{"kind": "movie", "id": str(some["_id"]), "text": "has changed"}]
    for bad in (
        ("--export", export),
        ("--against", certificate, "--ids"),
        ("--against", str(tmp_path)),
        ("--certificate", str(tmp_path / "none" / "certificate.json")),
    ):
        ended = stage.reelhaul("verify", *bad)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended.stderr
