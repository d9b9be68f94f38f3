"""Which requests are wanted still, known without a round trip for each message."""

import time
from typing import NamedTuple

from worker.limiter.client import Limiter
from worker.storage.database import Storage

#: Seconds until a wanted request is looked up again though nothing was said: whoever cancelled it may have
#: lost Redis before saying so ...
WANTED_S = 10.0
#: ... and the same while something may be said unheard; and for a request that was cancelled.
DOUBTFUL_S = 0.5


class _Known(NamedTuple):
    """What one reading has shown."""

    wanted: frozenset[str]
    #: Ids that were looked up and are not wanted.
    unwanted: frozenset[str] = frozenset()
    #: Of time.monotonic().
    read_at: float = float("-inf")
    #: How often something had been said by then.
    cancellations: int = 0


class ActiveRequests:
    """The requests that are saved and not cancelled; safe for threads."""

    def __init__(self, storage: Storage, limiter: Limiter) -> None:
        self._storage, self._limiter = storage, limiter
        self._known = _Known(frozenset())

    def includes(self, request_id: str) -> bool:
        """Whether the request is wanted; "" always is. Raises MongoUnavailable."""
        if not request_id:
            return True
        known = self._known
        if not self._is_believed(known, request_id):
            # What is said from now on counts as unheard: it may be too late for this reading.
            at, cancellations = time.monotonic(), self._limiter.cancellations
            wanted = frozenset(self._storage.requests.active_ids())
            unwanted = (known.unwanted | {request_id}) - wanted
            self._known = known = _Known(wanted, unwanted, at, cancellations)
        return request_id in known.wanted

    def _is_believed(self, known: _Known, request_id: str) -> bool:
        is_wanted = request_id in known.wanted
        if not is_wanted and request_id not in known.unwanted:
            return False
        longest_s = WANTED_S if is_wanted and self._limiter.subscribed else DOUBTFUL_S
        is_heard = known.cancellations == self._limiter.cancellations
        return is_heard and time.monotonic() - known.read_at < longest_s
