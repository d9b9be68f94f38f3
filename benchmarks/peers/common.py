"""What every peer shares: its arguments, the requests, and the documents that it stores."""

import argparse
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pymongo import ReplaceOne
from pymongo.database import Database

HEADERS = {"Authorization": "Bearer a-token-of-nobody", "Accept": "application/json"}
#: How often a peer that counts its attempts may try a refused page: as good as always, so that none is lost.
ATTEMPTS = 1_000
REFUSED = 429


@dataclass(frozen=True)
class Job:
    """`pages` are URLs by page key; `rate` is the limit in requests per second, None for none."""

    base_url: str
    mongo_url: str
    pages: dict[str, str]
    concurrency: int
    rate: float | None
    #: For what a peer keeps about its own progress.
    folder: Path
    redis_url: str


def read_job() -> Job:
    """The job that the command line describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("mongo_url", help="with the database's name")
    parser.add_argument("pages", type=Path, help="file with a page on each line: GENRE:YEAR:PAGE")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--redis-url", default="")
    given = parser.parse_args()
    keys = given.pages.read_text().split()
    return Job(
        given.base_url,
        given.mongo_url,
        {key: page_url(given.base_url, key) for key in keys},
        given.concurrency,
        given.rate,
        given.folder,
        given.redis_url,
    )


def page_url(base_url: str, key: str) -> str:
    genre, year, page = key.split(":")
    query = f"with_genres={genre}&primary_release_year={year}&page={page}&sort_by=original_title.asc"
    return f"{base_url}/discover/movie?{query}"


def documents(key: str, body: bytes) -> tuple[list[ReplaceOne[dict[str, Any]]], dict[str, Any]]:
    """The upserts of a page's movies, and the page's record."""
    page = json.loads(body)
    movies = [
        ReplaceOne({"_id": movie["id"]}, {"_id": movie["id"], **movie}, True) for movie in page["results"]
    ]
    record = {
        "_id": key,
        "total_pages": page["total_pages"],
        "total_results": page["total_results"],
        "movie_ids": [movie["id"] for movie in page["results"]],
        "fetched_at": datetime.now(UTC),
    }
    return movies, record


def save(database: Database[dict[str, Any]], key: str, body: bytes) -> None:
    """The movies first, then the record: what the record says is stored."""
    movies, record = documents(key, body)
    if movies:
        database["movies"].bulk_write(movies, ordered=False)
    database["pages"].replace_one({"_id": key}, record, upsert=True)


def stored_pages(database: Database[dict[str, Any]]) -> set[str]:
    return {record["_id"] for record in database["pages"].find({}, {"_id": 1})}


def retry_after_s(headers: Any) -> float:
    """What the server asks for, a second if it does not say."""
    return float(headers.get("Retry-After") or 1)


def report(fetched: int, refused: int) -> None:
    print(json.dumps({"fetched": fetched, "refused": refused}), flush=True)
