"""Confirms that a cell lost movies: one wrong page 1, from a cache, would delete its other page records."""

import structlog

from worker.clients import limiter, storage, tmdb_client
from worker.errors import Claimed, Rejected, Unparsable
from worker.keys import MAX_PAGE, PAGE_SIZE, Cell, PageKey
from worker.records import Page, Response
from worker.retry import CLAIM_POLL_S, retry_storage
from worker.tmdb import endpoints

log = structlog.get_logger(__name__)


def confirm_shrinkage(cell: Cell, first: Page, deadline: float) -> None:
    """If page 1 counts far fewer movies than before, check with a page beyond the new end, cached apart.

    Raises Unparsable when that page has movies or counts many more: page 1 is then requested again.
    """
    known = retry_storage(lambda: storage().pages.totals(cell.page(1)), deadline)
    if not known or known.fetched_at >= first.fetched_at or not _lost_much(known.pages, known.results, first):
        return
    number = min(max(first.total_pages, 1) + 1, MAX_PAGE)
    try:
        other = _discover_unclaimed(cell.page(number), deadline)
    except Rejected:
        return  # TMDB has no such page
    is_beyond = number > first.total_pages
    if (is_beyond and other.results) or _lost_much(other.total_pages, other.total_results, first):
        raise Unparsable(
            f"page 1 counts {first.total_results} movies on {first.total_pages} pages, "
            f"page {number} {other.total_results} on {other.total_pages}",
            Response(200, first.body),
        )
    log.info("cell shrank", pages=first.total_pages, movies=first.total_results)


def _lost_much(pages: int, results: int, page: Page) -> bool:
    """Whether the page counts fewer movies, by over PAGE_SIZE or half, or fewer pages, by more than one."""
    fewer = results - page.total_results
    return fewer > PAGE_SIZE or 2 * page.total_results < results or pages - page.total_pages > 1


def _discover_unclaimed(key: PageKey, deadline: float) -> Page:
    """Request the page, waiting while another thread is fetching it."""
    while True:
        try:
            return tmdb_client().get(key, endpoints.discover, deadline)
        except Claimed as claim:
            limiter().sleep(min(claim.wait_s, CLAIM_POLL_S))
