"""The collection `genres`: TMDB's names of genres."""

from collections.abc import Mapping
from datetime import datetime

from pymongo import UpdateOne

from worker.storage.mongo import Mongo, translate_errors


class GenreStore:
    """Names of genres. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self.collection = mongo.database["genres"]

    def save(self, names: Mapping[int, str], at: datetime) -> None:
        """Save TMDB's names, requested at that moment."""
        updates = [
            UpdateOne({"_id": id_}, {"$set": {"name": name, "fetched_at": at}}, upsert=True)
            for id_, name in names.items()
        ]
        with translate_errors():
            self.collection.bulk_write(updates)

    def names(self, fresh_after: datetime | None = None) -> dict[int, str]:
        """Names by genre id, sorted by name; only those requested since `fresh_after`."""
        query = {"fetched_at": {"$gte": fresh_after}} if fresh_after else {}
        with translate_errors():
            return {genre["_id"]: genre["name"] for genre in self.collection.find(query).sort("name", 1)}
