"""Decides whether a page that keeps failing is at fault, or TMDB.

Part of TMDB may be down: for one genre, one window, one page number, every other query. So a page is at fault
only if similar pages succeed each time after it has failed.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

import structlog

from worker.errors import ApiFailure, NotNow, Poison
from worker.keys import Key
from worker.limiter.client import Limiter
from worker.tmdb.client import TmdbClient
from worker.tmdb.endpoints import ApiRequest

log = structlog.get_logger(__name__)

#: Failures without a comparison: one response in ten may be bad, and a comparison costs three requests.
FREE_FAILURES = 2
#: Slow failures are compared at once (a page that drips or hangs): there is time for few attempts only.
SLOW_S = 10.0
#: The page is at fault after this many failures in a row, each followed by the success of similar pages ...
COMPARISONS = 3
#: ... unless at least this share of ENOUGH recent requests failed too. It is above a tenth, because the
#: comparisons for a broken page add nine requests that succeed.
ENOUGH, FLAKY_SHARE = 40, 0.125
#: Seconds between two attempts, doubled from first to longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 4.0
#: Seconds until a page is requeued because others fail too: it may come back at once.
REQUEUE_PAUSE_S = 2.0


class FlakinessWindow:
    """Outcomes of this process' recent requests, one per page or movie; thread-safe."""

    def __init__(self, length: int = 1000, life_s: float = 60.0) -> None:
        #: By id: the time, and whether the first attempt succeeded.
        self._outcomes: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._length, self._life_s = length, life_s

    def record(self, id_: str, *, succeeded: bool) -> None:
        self._outcomes[id_] = (time.monotonic(), succeeded)
        self._outcomes.move_to_end(id_)
        if len(self._outcomes) > self._length:
            self._outcomes.popitem(last=False)

    def others(self, than: str) -> list[bool]:
        """For each other page or movie, whether its first attempt succeeded."""
        since = time.monotonic() - self._life_s
        outcomes = list(self._outcomes.copy().items())
        return [succeeded for id_, (at, succeeded) in outcomes if at >= since and id_ != than]


_window = FlakinessWindow()


class Suspicion:
    """Counts the failures of one key's request; compares them with similar ones. No key: no comparison."""

    def __init__(
        self,
        key: Key | None,
        request: Callable[[Any], ApiRequest[Any]] | None,
        until: float,
        client: Callable[[], TmdbClient],
        limiter: Callable[[], Limiter],
    ) -> None:
        """`request(key)` is what failed; comparisons start until `until` (time.monotonic())."""
        self._key, self._request, self._until = key, request, until
        self._client, self._limiter = client, limiter
        self._begun = time.monotonic()
        self._failures = self._comparisons = 0

    def failed(self, failure: ApiFailure) -> None:
        """Count one more failure; Poison when the page is at fault, NotNow when others fail too."""
        self._failures += 1
        log.warning("request failed", reason=str(failure), attempts=self._failures)
        self._record(succeeded=False)
        if self._failures <= FREE_FAILURES and time.monotonic() - self._begun < SLOW_S:
            return
        self._compare(failure)
        self._comparisons += 1
        if self._comparisons >= COMPARISONS:
            self._blame(failure)

    def succeeded(self) -> None:
        """Record that TMDB answered."""
        self._record(succeeded=not self._failures)

    def sleep(self, since: float, until: float) -> None:
        """Pause before the next attempt, longer each time, counted from `since`; not beyond `until`."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1))
        self._limiter().sleep(min(since + pause_s, until) - time.monotonic())

    def _blame(self, failure: ApiFailure) -> NoReturn:
        """Raise Poison, or NotNow if too many others failed too; a few broken pages are not that many."""
        if self._key:
            while len(others := _window.others(self._key.id)) < ENOUGH:
                self._compare(failure)
            if others.count(False) >= FLAKY_SHARE * len(others):
                self._requeue(f"TMDB fails now and then: {failure}")
        what = "" if self._key else "TMDB_BASE_URL gives no usable answer: "  # of a command
        raise Poison(f"{what}{self._failures} attempts: {failure}", failure.response) from None

    def _record(self, *, succeeded: bool) -> None:
        if self._key:
            _window.record(self._key.id, succeeded=succeeded)

    def _compare(self, failure: ApiFailure) -> None:
        """Request similar pages; NotNow when one of them fails too."""
        if not self._key or not self._request:
            return
        for other in self._key.similar():
            try:
                self._client().check_answers(other, self._request, self._until)
            except ApiFailure as same:
                _window.record(other.id, succeeded=False)
                self._requeue(f"{failure}; {other.id} fails too: {same}")
            _window.record(other.id, succeeded=True)

    def _requeue(self, reason: str) -> NoReturn:
        self._limiter().sleep(REQUEUE_PAUSE_S)
        raise NotNow(reason) from None
