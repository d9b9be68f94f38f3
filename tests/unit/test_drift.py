"""Which pages are asked for again, simulated: TMDB changes while its pages are read."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from producer.drift import RECHECKS, WHOLE, judge
from worker.keys import PAGE_SIZE, Cell
from worker.storage.documents import PageRecord, Totals

CELL = Cell(18, "1999")
AT = datetime(2026, 5, 1, tzinfo=UTC)
#: A page is asked for again so often until page 1 is, and so on: a page's most requests of all.
MOST = 1 + RECHECKS * (1 + WHOLE)


class Tmdb:
    """A list of movies that changes after every `every` requests, `changes` times.

    `slides`: how often a page begins one movie earlier.
    """

    def __init__(
        self,
        movies: int,
        every: int = 1,
        changes: int = 0,
        seed: int = 0,
        *,
        moves: bool = False,
        slides: float = 0,
    ) -> None:
        self._kinds, self._slides = 2 if moves else 4, slides
        self.movies, self._next = list(range(movies)), movies
        self._every, self._left = every, changes
        self._dice = random.Random(seed)  # noqa: S311 -- a simulation
        self.requests: list[int] = []
        #: What caches serve in place of a page.
        self.cached: dict[int, tuple[list[int], int]] = {}

    def page(self, number: int, recheck: int) -> PageRecord:
        """The record of a page that is requested now."""
        self.requests.append(number)
        if self._left and len(self.requests) % self._every == 0:
            self._left -= 1
            self._change()
        start = max(0, (number - 1) * PAGE_SIZE - (self._dice.random() < self._slides))
        rows = self.movies[start : start + PAGE_SIZE]
        ids, results = self.cached.get(number, (rows, len(self.movies)))
        at = AT + timedelta(seconds=len(self.requests))
        totals = Totals(max(1, -(-results // PAGE_SIZE)), results, at)
        return PageRecord(CELL.page(number), totals, ids, recheck)

    def _change(self) -> None:
        """A movie moves or, of four kinds, goes or comes."""
        kind = self._dice.randrange(self._kinds)
        moved = self._next
        if kind < 3:
            moved = self.movies.pop(self._dice.randrange(len(self.movies)))
        if kind == 3:
            self._next += 1
        if kind != 2:
            self.movies.insert(self._dice.randrange(len(self.movies)), moved)

    def haul(self) -> tuple[list[PageRecord], int]:
        """Fetch everything, and again what `judge` says; the records at the end, and how many are short."""
        stored = {1: self.page(1, 0)}
        while True:
            pages, results, _ = stored[1].totals or (0, 0, AT)
            for number in CELL.pages(pages):
                if number not in stored:
                    stored[number] = self.page(number, 0)
            needed = [stored[number] for number in CELL.pages(pages)]
            verdict = judge(needed, results)
            if not verdict.again:
                return needed, verdict.short
            for fetch in verdict.again:
                before = stored[fetch.key.page].totals
                assert before
                assert fetch.fresh_after
                assert fetch.fresh_after > before.fetched_at
                stored[fetch.key.page] = self.page(fetch.key.page, *fetch.options)


def ids(pages: Sequence[PageRecord]) -> set[int]:
    return {id_ for page in pages for id_ in page.movie_ids}


@pytest.mark.parametrize("movies", [0, 1, 19, 20, 21, 45, 2_000])
def test_what_rests_is_fetched_once(movies: int) -> None:
    tmdb = Tmdb(movies)
    pages, short = tmdb.haul()
    assert (ids(pages), short) == (set(tmdb.movies), 0)
    assert len(tmdb.requests) == max(1, -(-movies // PAGE_SIZE))


def drifting(seed: int, *, moves: bool) -> Tmdb:
    """A cell of 40 pages in which up to five movies move while it is read, or also come and go."""
    dice = random.Random(seed)  # noqa: S311 -- a simulation
    return Tmdb(800, every=dice.randint(1, 9), changes=dice.randint(1, 5), seed=seed, moves=moves)


@pytest.mark.parametrize("seed", range(100))
def test_every_movie_that_moves_is_found(seed: int) -> None:
    tmdb = drifting(seed, moves=True)
    pages, short = tmdb.haul()
    assert (ids(pages), short) == (set(tmdb.movies), 0)
    assert len(tmdb.requests) < 4 * 40


@pytest.mark.parametrize("seed", range(5))
def test_every_movie_of_a_large_cell_is_found_though_pages_slide_all_the_time(seed: int) -> None:
    tmdb = Tmdb(10_000, every=2_000, changes=1_000, seed=seed, moves=True, slides=0.05)
    pages, short = tmdb.haul()
    assert (ids(pages), short) == (set(tmdb.movies), 0)
    assert len(tmdb.requests) < 1.3 * 500


def test_movies_that_come_and_go_are_almost_always_found() -> None:
    """Not always: if one goes just before another comes, the numbers may be right by chance."""
    found = 0
    for seed in range(100):
        tmdb = drifting(seed, moves=False)
        pages, short = tmdb.haul()
        assert short == 0
        assert len(tmdb.requests) < 4 * 40
        found += ids(pages) == set(tmdb.movies)
    assert found >= 95


def test_a_movie_that_moved_far_is_found_in_few_rounds() -> None:
    """From page 400 to page 100 while page 300 is read: by then nothing shows where it is now."""
    tmdb = Tmdb(10_000)
    pages = [tmdb.page(number, 0) for number in range(1, 301)]
    tmdb.movies.insert(2_000, tmdb.movies.pop(8_000))
    pages += [tmdb.page(number, 0) for number in range(301, 501)]
    rounds = 0
    while again := judge(pages, 10_000).again:
        rounds += 1
        for fetch in again:
            pages[fetch.key.page - 1] = tmdb.page(fetch.key.page, *fetch.options)
    assert ids(pages) == set(range(10_000))
    assert rounds <= RECHECKS + 2
    assert len(tmdb.requests) < 2.2 * 500


def test_a_page_that_slid_is_asked_for_again_with_the_page_before_it() -> None:
    tmdb = Tmdb(200)
    pages = [tmdb.page(number, 0) for number in range(1, 11)]
    pages[4] = pages[4]._replace(movie_ids=[79, *pages[4].movie_ids[:-1]])
    verdict = judge(pages, 200)
    assert [(fetch.key.page, fetch.options) for fetch in verdict.again] == [(4, (1,)), (5, (1,))]
    assert verdict.short == 1


def test_an_old_page_from_a_cache_costs_few_requests_and_is_short_in_the_end() -> None:
    """It stays as it was before a movie came, whatever is asked: the last movie of page 4 is never shown."""
    tmdb = Tmdb(201)
    tmdb.cached[5] = (list(range(81, 101)), 200)
    pages, short = tmdb.haul()
    assert (ids(pages), short) == (set(range(201)) - {80}, 1)
    assert all(tmdb.requests.count(number) <= MOST for number in range(1, 12))


@pytest.mark.parametrize("stated", [44, 46])
def test_wrong_totals_end_too(stated: int) -> None:
    """TMDB counts a movie more, or less, than it shows: it is asked again, and not for ever."""
    tmdb = Tmdb(45)
    tmdb.cached = {n: (list(range((n - 1) * 20, min(n * 20, 45))), stated) for n in (1, 2, 3)}
    pages, short = tmdb.haul()
    assert (len(ids(pages)), short) == (45, max(0, stated - 45))
    assert max(tmdb.requests.count(number) for number in (1, 2, 3)) <= MOST


def test_a_tmdb_that_never_rests_ends_too() -> None:
    tmdb = Tmdb(800, every=3, changes=1_000_000)
    tmdb.haul()
    assert all(tmdb.requests.count(number) <= MOST for number in range(1, 41))


def test_pages_without_a_known_total_are_asked_for_again_when_a_movie_is_on_two() -> None:
    tmdb = Tmdb(60)
    pages = [tmdb.page(number, 0) for number in (1, 2, 3)]
    assert judge(pages, None).again == []
    pages[2] = pages[2]._replace(movie_ids=[39, *pages[2].movie_ids[:-1]])
    assert [fetch.key.page for fetch in judge(pages, None).again] == [2, 3]


def test_movies_that_are_on_the_end_of_the_day_are_not_missing() -> None:
    tmdb = Tmdb(60)
    pages = [tmdb.page(number, 0) for number in (1, 2)]
    assert judge(pages, 60).short == 20
    assert judge(pages, 60, range(35, 60)).again == []
