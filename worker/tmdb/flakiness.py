"""Is the page at fault when it fails again and again, or the API?

Part of the API may be down: for one genre, one window, one page number, every other query. So a page is at
fault only if similar pages succeed each time after it has failed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NoReturn

import structlog

from worker.errors import ApiFailure, NotNow, Poison
from worker.keys import MovieKey, PageKey
from worker.limiter.client import Limiter
from worker.tmdb.client import TmdbClient

log = structlog.get_logger(__name__)

#: Failures that need no comparison: one answer in ten may be bad, and a comparison costs three requests.
FREE_FAILURES = 2
#: Unless they took this many seconds (a page that always drips or hangs): then there is time for few attempts.
SLOW_S = 10.0
#: Failures in a row, each followed by the success of similar pages, that put the page at fault.
COMPARISONS = 3
#: Unless at least this share of recent requests failed too, of at least so many. Above a tenth: to a page
#: that is broken for good, comparisons add nine requests that succeed.
ENOUGH, FLAKY_SHARE = 40, 0.125
#: Seconds between two attempts at a page: at first, and at most.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 4.0
#: Seconds before a page goes back to the queue because others fail too: it may come again at once.
REQUEUE_PAUSE_S = 2.0


class FlakinessWindow:
    """How this process' recent requests went, each page and movie counted once; safe for threads."""

    def __init__(self, length: int = 1000, life_s: float = 60.0) -> None:
        #: By id: when, and whether its first attempt succeeded.
        self._outcomes: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._length, self._life_s = length, life_s

    def record(self, id_: str, *, succeeded: bool) -> None:
        self._outcomes[id_] = (time.monotonic(), succeeded)
        self._outcomes.move_to_end(id_)
        if len(self._outcomes) > self._length:
            self._outcomes.popitem(last=False)

    def others(self, than: str) -> list[bool]:
        """For each other page and movie, whether its first attempt succeeded."""
        since = time.monotonic() - self._life_s
        outcomes = list(self._outcomes.copy().items())
        return [succeeded for id_, (at, succeeded) in outcomes if at >= since and id_ != than]


_window = FlakinessWindow()


class Suspicion:
    """Follows the attempts at one page or movie. Without a key nothing is compared."""

    def __init__(
        self,
        key: PageKey | MovieKey | None,
        append: Iterable[str],
        until: float,
        client: Callable[[], TmdbClient],
        limiter: Callable[[], Limiter],
    ) -> None:
        """Similar pages are requested until `until` (time.monotonic()), with the same parts appended."""
        self._key, self._append, self._until = key, tuple(append), until
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
        """TMDB answered."""
        self._record(succeeded=not self._failures)

    def sleep(self, since: float, until: float) -> None:
        """Pause before the next attempt, longer each time, counted from `since`; not beyond `until`."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1))
        self._limiter().sleep(min(since + pause_s, until) - time.monotonic())

    def _blame(self, failure: ApiFailure) -> NoReturn:
        """Raise Poison, unless too many others are flaky: ten broken pages do not excuse each other."""
        if self._key:
            while len(others := _window.others(self._key.id)) < ENOUGH:
                self._compare(failure)
            if others.count(False) >= FLAKY_SHARE * len(others):
                self._excuse(f"TMDB fails now and then: {failure}")
        raise Poison(f"{self._failures} attempts: {failure}", failure.response) from None

    def _record(self, *, succeeded: bool) -> None:
        if self._key:
            _window.record(self._key.id, succeeded=succeeded)

    def _compare(self, failure: ApiFailure) -> None:
        """Request similar pages; NotNow when one of them fails too."""
        for other in self._key.similar() if self._key else ():
            try:
                self._client().check_answers(other, self._append, self._until)
            except ApiFailure as same:
                _window.record(other.id, succeeded=False)
                self._excuse(f"{failure}; {other.id} fails too: {same}")
            _window.record(other.id, succeeded=True)

    def _excuse(self, reason: str) -> NoReturn:
        self._limiter().sleep(REQUEUE_PAUSE_S)
        raise NotNow(reason) from None
