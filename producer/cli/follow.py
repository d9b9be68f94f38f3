"""Follow a backfill or requested movies until nothing is missing; enqueue again what the broker loses."""

import time
from contextlib import suppress

import typer
from rich.live import Live

from producer.charts.grid import quarantined
from producer.cli.render import at_intervals, console, counted, live_view, progress_bar, title
from producer.cli.tmdb import open_limiter
from producer.enqueue import Backfill, enqueue_backfill
from producer.progress import Progress, measure
from producer.schedule.entries import enqueue_requested
from worker.app import app
from worker.clients import limiter, storage
from worker.errors import KeyRejected, RedisUnavailable, UsageError
from worker.limiter.state import LimiterState
from worker.queues import lengths

#: Seconds between two measurements, at least.
INTERVAL_S = 0.5
#: Seconds without a new page after which the queues and the workers are checked.
STALLED_S = 10.0


def run_backfill(backfill: Backfill, queue: str, *, detach: bool, quiet: bool) -> None:
    """Enqueue what the backfill lacks and follow it; exit code 1 when pages are in quarantine."""
    out = console(quiet=quiet)
    open_limiter()
    sent = enqueue_backfill(storage(), backfill, queue)
    if detach:
        out.print(
            f"backfill {backfill.id}: {sent:,} messages sent; `reelhaul status --watch` shows its progress"
        )
        return
    try:
        ended = follow(backfill, quiet=quiet)
    except KeyboardInterrupt:
        out.print(
            f"\ndetached; the workers go on with backfill {backfill.id}. "
            "`reelhaul status --watch` shows its progress, the same command follows it again"
        )
        return
    out.print(summary(ended))
    if ended.total.quarantined:
        raise typer.Exit(1)


def follow(backfill: Backfill, *, quiet: bool = False) -> Progress:
    """Show the backfill until nothing is missing; returns its last progress.

    Raises KeyRejected when TMDB rejects the workers' key, UsageError when no worker answers.
    """
    out, stall = console(quiet=quiet), _StallDetector()
    with Live(console=out, auto_refresh=False, transient=not out.is_terminal) as live:
        for _ in at_intervals(INTERVAL_S):
            progress, state = measure(storage(), backfill), limiter().state()
            if out.is_terminal:
                live.update(live_view(progress, state), refresh=True)
            total = progress.total
            if stall.messages_lost(total.stored, state, f"{counted(total.missing, 'page')} missing"):
                enqueue_backfill(storage(), backfill)
            if not total.missing:
                break
    return progress


def summary(progress: Progress) -> str:
    """A backfill's result in one line."""
    total = progress.total
    pages = f"{total.stored:,} of {total.planned:,} pages stored{quarantined(total)}"
    return f"{title(progress)}: {pages}, {progress.movies:,} movies"


def run_movie_requests(*, detach: bool, quiet: bool) -> None:
    """Follow the requested movies until all are fetched; raises as `follow` does."""
    out = console(quiet=quiet)
    left = storage().movie_requests.count()
    if detach:
        out.print(f"{counted(left, 'movie')} waiting for the workers")
        return
    try:
        _follow_movies(left, quiet=quiet)
    except KeyboardInterrupt:
        left = storage().movie_requests.count()
        out.print(f"\ndetached; {counted(left, 'movie')} left, which the workers fetch while beat runs")


def _follow_movies(left: int, *, quiet: bool) -> None:
    stall = _StallDetector()
    with progress_bar("movies", left, quiet=quiet) as advance:
        while left:
            stall.messages_lost(left, limiter().state(), f"{counted(left, 'movie')} requested")
            with suppress(RedisUnavailable):  # the workers wait for it too
                enqueue_requested(lengths())
            time.sleep(INTERVAL_S)
            now = storage().movie_requests.count()
            advance(max(0, left - now))
            left = now


class _StallDetector:
    """Notices that nothing happens though the limiter is open, and finds out why."""

    def __init__(self) -> None:
        self._count, self._since = -1, time.monotonic()

    def messages_lost(self, count: int, state: LimiterState, missing: str) -> bool:
        """Whether `count` has not changed for long and the queues are empty.

        Raises KeyRejected when TMDB rejects the workers' key, UsageError when messages wait and no worker
        answers.
        """
        if state.stopped:
            raise KeyRejected(state.closed_reason)
        now = time.monotonic()
        if count != self._count or state.closed_reason:
            self._count, self._since = count, now
        if now - self._since <= max(STALLED_S, 3 / state.current_per_s):
            return False
        self._since = now
        try:
            if not sum(lengths().values()):
                return True
        except RedisUnavailable:
            return False  # the workers wait for it too
        if not app.control.ping(timeout=2.0):
            raise UsageError(
                f"no worker answers, {missing}; start workers with "
                "`celery -A worker.app worker` or `reelhaul standalone`, then run this command again"
            )
        return False
