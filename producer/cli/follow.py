"""Follows a backfill until nothing is missing, and mends what the broker lost meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from rich.live import Live

from producer.cli.render import advancing, console, live_view, title
from producer.enqueue import Backfill, enqueue_backfill
from producer.progress import Progress, measure
from producer.schedule.entries import enqueue_requested
from worker.app import app
from worker.clients import limiter, storage
from worker.errors import KeyRejected, RedisUnavailable, UsageError
from worker.limiter.client import Limiter
from worker.limiter.state import LimiterState
from worker.queues import lengths
from worker.storage.database import Storage

#: Seconds between two looks, at the least; a look that takes long is taken less often.
LOOK_S = 0.5
#: Seconds without a new page after which it is asked whether anybody works at all.
STALLED_S = 10.0


@dataclass(frozen=True)
class Look:
    """One look at a run: what is stored, what the gate says."""

    progress: Progress
    gate: LimiterState


def looks(storage: Storage, limiter: Limiter, backfill: Backfill) -> Iterator[Look]:
    """A look every now and then, until nothing is missing; the last one shows that."""
    while True:
        begun = time.monotonic()
        progress = measure(storage, backfill)
        yield Look(progress, limiter.state())
        if not progress.total.missing:
            return
        time.sleep(max(LOOK_S, 3 * (time.monotonic() - begun)))


def follow(storage: Storage, limiter: Limiter, backfill: Backfill, *, quiet: bool = False) -> Progress:
    """Show the run until it ends; returns how it ended.

    Raises KeyRejected when the key is refused, UsageError when no worker runs. What the broker lost is
    enqueued again.
    """
    out = console(quiet=quiet)
    stalled = _Stall()
    with Live(console=out, auto_refresh=False, transient=not out.is_terminal) as live:
        for look in looks(storage, limiter, backfill):
            if out.is_terminal:
                live.update(live_view(look.progress, look.gate), refresh=True)
            if look.gate.stopped:
                raise KeyRejected(look.gate.closed_reason)
            if stalled.for_long(look.progress.total.stored, look.gate):
                lacking = f"{look.progress.total.missing:,} pages are missing"
                stalled.mend(lambda: enqueue_backfill(storage, backfill), lacking)
    return look.progress


def last_line(progress: Progress) -> str:
    """How a run ended, in one line."""
    total = progress.total
    line = (
        f"{title(progress)}: {total.stored:,} of {total.planned:,} pages stored, {progress.movies:,} movies"
    )
    if total.quarantined:
        line += f", {total.quarantined:,} pages in quarantine"
    return line


def follow_movies(storage: Storage, limiter: Limiter, *, quiet: bool = False) -> None:
    """Show how the list of wanted movies gets shorter until it is empty, and enqueue them meanwhile.

    Raises as `follow` does.
    """
    left = storage.movie_requests.count()
    stalled = _Stall()
    with advancing("movies", left, quiet=quiet) as on_movies:
        while left:
            gate = limiter.state()
            if gate.stopped:
                raise KeyRejected(gate.closed_reason)
            if stalled.for_long(left, gate):
                stalled.mend(lambda: enqueue_requested(lengths()), f"{left:,} movies are wanted")
            with suppress(RedisUnavailable):  # the workers wait for it too
                enqueue_requested(lengths())
            time.sleep(LOOK_S)
            now = storage.movie_requests.count()
            on_movies(max(0, left - now))
            left = now


class _Stall:
    """Notices that nothing moves though the gate is open, and finds out why."""

    def __init__(self) -> None:
        self._seen, self._since = -1, time.monotonic()

    def for_long(self, figure: int, gate: LimiterState) -> bool:
        """Whether the figure has not moved for long."""
        now = time.monotonic()
        if figure != self._seen or gate.closed_reason:
            self._seen, self._since = figure, now
        return now - self._since > max(STALLED_S, 3 / gate.current_per_s)

    def mend(self, send_again: Callable[[], object], lacking: str) -> None:
        """Send again what the broker lost; UsageError when nobody works."""
        self._since = time.monotonic()
        try:
            waiting = sum(lengths().values())
        except RedisUnavailable:
            return  # the workers wait for it too
        if not waiting:
            send_again()
        elif not app.control.ping(timeout=2.0):
            raise UsageError(
                f"no worker answers and {lacking}; start some with "
                "`celery -A worker.app worker` or `reelhaul standalone`, then run this command again"
            )


def follow_requested(*, detach: bool, quiet: bool) -> None:
    """Wait until no movie is wanted any more; Ctrl-C detaches."""
    out = console(quiet=quiet)
    if detach:
        out.print(f"{storage().movie_requests.count():,} movies wait for the workers")
        return
    try:
        follow_movies(storage(), limiter(), quiet=quiet)
    except KeyboardInterrupt:
        left = storage().movie_requests.count()
        out.print(f"\ndetached; beat feeds the workers what is left: {left:,} movies")
