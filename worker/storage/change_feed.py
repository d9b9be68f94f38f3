"""The collections `handled_changes` and `cursors`: how far TMDB's change feed was read."""

from collections.abc import Collection, Iterable
from datetime import datetime

from pymongo import UpdateOne

from worker.storage.mongo import Mongo, translate_errors


class ChangeFeedStore:
    """Progress through the change feed. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._handled = mongo.database["handled_changes"]
        self._cursors = mongo.journalled["cursors"]

    def not_handled(self, ids: Collection[int], moment: datetime) -> set[int]:
        """Those of the movies whose changes up to that moment were not marked as handled."""
        known: set[int] = set()
        for batch in self._mongo.batches(ids):
            query = {"_id": {"$in": batch}, "until": self._mongo.since(moment)}
            with translate_errors():
                known.update(row["_id"] for row in self._handled.find(query, {"_id": 1}))
        return set(ids) - known

    def mark_handled(self, ids: Iterable[int], until: datetime) -> None:
        """Mark the movies' changes up to that moment as handled."""
        updates = [UpdateOne({"_id": id_}, {"$max": {"until": until}}, upsert=True) for id_ in ids]
        if updates:
            with translate_errors():
                self._handled.bulk_write(updates, ordered=False)

    def forget_handled(self, before: datetime) -> None:
        """Delete what was marked as handled up to a moment before that one."""
        with translate_errors():
            self._handled.create_index("until")
            self._handled.delete_many({"until": {"$lt": before}})

    def read_to(self) -> datetime | None:
        """The moment up to which all changes are handled; None before the first reading."""
        with translate_errors():
            cursor = self._cursors.find_one({"_id": "changes"})
        return cursor["read_to"] if cursor and cursor["read_to"] <= self._mongo.latest() else None

    def set_read_to(self, moment: datetime) -> None:
        """Set that moment; it never moves back."""
        with translate_errors():
            self._cursors.delete_one({"_id": "changes", "read_to": {"$gt": self._mongo.latest()}})
            self._cursors.update_one({"_id": "changes"}, {"$max": {"read_to": moment}}, upsert=True)
