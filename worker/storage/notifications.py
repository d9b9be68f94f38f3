"""The collection `notifications`: what the webhook was told, so that it is told once."""

from datetime import datetime, timedelta

from worker.storage.mongo import Mongo, claim, translate_errors

#: The document that one process of the fleet claims while it tells the webhook.
_TURN = "turn"
#: The turn of a process that died ends after this.
TURN = timedelta(seconds=60)


class NotificationStore:
    """What was told, by the notification's id. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self.collection = mongo.database["notifications"]

    def begin(self, now: datetime) -> bool:
        """Take the turn; True for one process of the fleet, until it calls `end`, or for TURN."""
        return claim(self.collection, _TURN, TURN, now)

    def end(self) -> None:
        """Give the turn back."""
        self.forget(_TURN)

    def told(self) -> dict[str, datetime]:
        """When each notification was sent, by id."""
        with translate_errors():
            return {told["_id"]: told["sent_at"] for told in self.collection.find({"sent_at": {"$ne": None}})}

    def note_told(self, id_: str, at: datetime) -> None:
        """Note that the notification was sent."""
        with translate_errors():
            self.collection.update_one({"_id": id_}, {"$set": {"sent_at": at}}, upsert=True)

    def forget(self, id_: str) -> None:
        """Let the notification be sent again."""
        with translate_errors():
            self.collection.delete_one({"_id": id_})

    def forget_before(self, moment: datetime) -> None:
        """Forget what was sent before that moment."""
        with translate_errors():
            self.collection.delete_many({"sent_at": {"$lt": moment}})
