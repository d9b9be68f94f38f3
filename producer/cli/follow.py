"""Follow a request until nothing is missing; enqueue again what the broker loses."""

import time
from collections.abc import Iterator
from contextlib import suppress

import typer
from rich.live import Live

from producer.cli.render import at_intervals, console, counted, live_view, print_json, summary
from producer.cli.tmdb import open_limiter
from producer.drift import rechecks
from producer.enqueue import enqueue_request, enqueue_some, save_request
from producer.progress import measure
from producer.queues import MOVIES, REFRESH, answering_workers, lengths
from producer.requests.request import Progress, Request
from producer.schedule.entries import SHORT_QUEUE
from worker.clients import limiter, storage
from worker.errors import KeyRejected, RedisUnavailable, UsageError
from worker.keys import Fetch, Key
from worker.limiter.state import LimiterState

#: Seconds between two measurements, at least.
INTERVAL_S = 0.5
#: Seconds without progress after which the queues and the workers are checked.
STALLED_S = 10.0


def run_request(
    request: Request, queue: str = "cells", *, detach: bool, quiet: bool, as_json: bool = False
) -> None:
    """Enqueue what it lacks and follow it; exit code 1 when it is cancelled or anything is in quarantine.

    With `as_json` print what came of it as one JSON object, and nothing else.
    """
    quiet = quiet or as_json
    out = console(quiet=quiet)
    open_limiter()
    name = f"{request.kind} {request.id}"
    if detach:
        sent = enqueue_request(storage(), request, queue)
        if as_json:
            print_json({"kind": request.kind, "id": request.id, "sent": sent})
        out.print(f"{name}: {sent:,} messages sent; `reelhaul status --watch` shows its progress")
        return
    try:
        ended = follow(request, queue, quiet=quiet)
    except KeyboardInterrupt:
        out.print(
            f"\ndetached; the workers continue with {name}. "
            "`reelhaul status --watch` shows its progress, the same command follows it again"
        )
        return
    movies = storage().movies.count()
    if as_json:
        print_json(ended.as_dict() | {"movies": movies})
    out.print(summary(ended, movies), soft_wrap=True)
    if ended.cancelled:
        out.print(f"{name} was cancelled; the same command continues it")
    if ended.quarantined or ended.cancelled:
        raise typer.Exit(1)


def follow(request: Request, queue: str = "cells", *, quiet: bool = False) -> Progress:
    """Enqueue what the request lacks, show it until nothing is missing or somebody cancels it.

    Returns its last progress.
    Raises KeyRejected when TMDB rejects the workers' key, UsageError when no worker answers.
    """
    out, stall = console(quiet=quiet), _StallDetector()
    save_request(storage(), request)
    asked: set[Fetch[Key]] = set()
    rest: Iterator[Fetch[Key]] | None = None  # of which a queue holds only some single movies at a time
    with Live(console=out, auto_refresh=False, transient=not out.is_terminal) as live:
        for _ in at_intervals(INTERVAL_S):
            progress, state = measure(storage(), request), limiter().state()
            progress.cancelled = request.id not in storage().requests.active_ids()
            if out.is_terminal:
                live.update(live_view(progress, state), refresh=True)
            again = list(request.fetches(rechecks(storage(), progress.unchecked)))
            if progress.cancelled:
                break
            if not progress.missing and not again:
                if progress.unchecked:  # they are checked now: read what they are short of
                    progress = measure(storage(), request)
                break
            missing = f"{counted(progress.missing + len(again), 'request')} missing"
            # The first time, and not before: for it, all page records are read once more.
            if rest is None or stall.messages_lost((progress.done, again), state, missing):
                rest = request.fetches(request.missing(storage()))
                enqueue_some(rest, queue)
                asked.update(again)
            elif new := [fetch for fetch in again if fetch not in asked]:
                with suppress(RedisUnavailable):  # the workers wait for it too
                    enqueue_some(iter(new), queue)
                    asked.update(new)
            elif progress.movies.missing > SHORT_QUEUE:
                _refill(rest, queue)
    return progress


def _refill(rest: Iterator[Fetch[Key]], queue: str) -> None:
    """Enqueue more of the rest when the queue that single movies wait in is short."""
    with suppress(RedisUnavailable):  # the workers wait for it too
        if lengths()[REFRESH if queue == REFRESH else MOVIES] <= SHORT_QUEUE:
            enqueue_some(rest, queue)


class _StallDetector:
    """Notices that nothing happens though the limiter is open, and finds out why."""

    def __init__(self) -> None:
        self._count: object = None
        self._since = time.monotonic()

    def messages_lost(self, count: object, state: LimiterState, missing: str) -> bool:
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
        if not answering_workers(timeout_s=2.0):
            raise UsageError(
                f"no worker answers, {missing}; start workers with "
                "`celery -A worker.app worker` or `reelhaul standalone`, then run this command again"
            )
        return False
