"""The collection `schedule`: when each schedule entry last ran, and its outcome."""

from datetime import datetime, timedelta

from worker.storage.mongo import Document, Mongo, claim, translate_errors


class ScheduleStore:
    """States of schedule entries. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self.collection = mongo.database["schedule"]

    def states(self) -> dict[str, Document]:
        """The state of each entry, by name."""
        with translate_errors():
            return {entry["_id"]: entry for entry in self.collection.find()}

    def set_state(self, name: str, **facts: object) -> None:
        """Set facts of an entry's state."""
        with translate_errors():
            self.collection.update_one({"_id": name}, {"$set": facts}, upsert=True)

    def claim(self, name: str, period: timedelta, now: datetime) -> bool:
        """Claim atomically, unless claimed within `period`; True for exactly one caller."""
        return claim(self.collection, name, period, now)
