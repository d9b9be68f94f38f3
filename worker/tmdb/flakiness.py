"""Whose fault is it that a page fails again and again: its own, or the API's?

A part of the API may be down: for one genre, one window, one page number, every other query. So a page is
to blame only if others that are like it are well, each time after it has failed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import NoReturn

import structlog

from worker.clients import limiter, tmdb_client
from worker.errors import ApiTrouble, NotNow, Poison
from worker.keys import MovieKey, PageKey

log = structlog.get_logger(__name__)

#: Failures that need no comparison: one answer in ten may be bad, and a comparison costs three requests.
FREE = 2
#: Unless they took so long (a page that always drips or hangs): then there is time for few of them.
LONG_S = 10.0
#: So many failures in a row, each followed by others' success, and the page is to blame.
COMPARISONS = 3
#: So many others must be known of lately, and less than this share of them may have failed, be it only at
#: first. Above a tenth: what is broken for good adds nine others that are well for each that is not.
ENOUGH, TROUBLED = 40, 0.125
#: Seconds between two tries of a page: at first, and at most.
FIRST_REST_S, LONGEST_REST_S = 0.5, 4.0
#: Seconds before a page goes back to the queue because others fail too: it may come again at once.
BACK_S = 2.0


class Lately:
    """How this process' requests went of late, each page and movie counted once; safe for threads."""

    def __init__(self, length: int = 1000, life_s: float = 60.0) -> None:
        #: By id: when, and whether it went well at the first try.
        self._known: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._length, self._life_s = length, life_s

    def note(self, id_: str, *, well: bool) -> None:
        self._known[id_] = (time.monotonic(), well)
        self._known.move_to_end(id_)
        if len(self._known) > self._length:
            self._known.popitem(last=False)

    def others(self, than: str) -> list[bool]:
        """Of each other one whether it went well at the first try."""
        since = time.monotonic() - self._life_s
        known = list(self._known.copy().items())
        return [well for id_, (at, well) in known if at >= since and id_ != than]


_lately = Lately()


class Trial:
    """The tries of one page or movie in one slot. Without a key, five failures are enough."""

    def __init__(self, key: PageKey | MovieKey | None, append: Iterable[str], until: float) -> None:
        """Comparisons are asked for until `until` (time.monotonic()), with the same parts appended."""
        self._key, self._append, self._until = key, tuple(append), until
        self._begun = time.monotonic()
        self._failures = self._comparisons = 0

    def failed(self, trouble: ApiTrouble) -> None:
        """One more failure. Poison when the page is to blame, NotNow when others fail as well."""
        self._failures += 1
        log.warning("trouble", reason=str(trouble), tries=self._failures)
        self._note(well=False)
        if self._failures <= FREE and time.monotonic() - self._begun < LONG_S:
            return
        self._compare(trouble)
        self._comparisons += 1
        if self._comparisons >= COMPARISONS:
            self._blame(trouble)

    def _blame(self, trouble: ApiTrouble) -> NoReturn:
        """Poison, unless too many others are troubled: ten pages broken for good do not excuse each other."""
        if self._key:
            while len(others := _lately.others(self._key.id)) < ENOUGH:
                self._compare(trouble)
            if others.count(False) >= TROUBLED * len(others):
                self._excuse(f"the API fails now and then: {trouble}")
        raise Poison(f"{self._failures} tries: {trouble}", trouble.response) from None

    def succeeded(self) -> None:
        """The API had an answer."""
        self._note(well=not self._failures)

    def rest(self, since: float, until: float) -> None:
        """Wait for the next try, growing from try to try, `since` the last one began; not beyond `until`."""
        pause_s = min(LONGEST_REST_S, FIRST_REST_S * 2 ** (self._failures - 1))
        limiter().rest(min(since + pause_s, until) - time.monotonic())

    def _note(self, *, well: bool) -> None:
        if self._key:
            _lately.note(self._key.id, well=well)

    def _compare(self, trouble: ApiTrouble) -> None:
        for other in self._key.alike() if self._key else ():
            try:
                tmdb_client().answers(other, self._append, self._until)
            except ApiTrouble as same:
                _lately.note(other.id, well=False)
                self._excuse(f"{trouble}; {other.id} fails as well: {same}")
            _lately.note(other.id, well=True)

    @staticmethod
    def _excuse(reason: str) -> NoReturn:
        limiter().rest(BACK_S)
        raise NotNow(reason) from None
