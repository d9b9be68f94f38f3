"""Follows a backfill until nothing is missing, and mends what the broker lost meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.live import Live

from producer.display import console, live_view, title
from producer.enqueue import Backfill, begin
from producer.status import Progress, measure
from worker.app import app
from worker.errors import Forbidden, NotNow, UsageError
from worker.gate import GateState
from worker.limiter import Limiter
from worker.store import Store
from worker.tasks import queued

#: Seconds between two looks, at the least; a look that takes long is taken less often.
LOOK_S = 0.5
#: Seconds without a new page after which it is asked whether anybody works at all.
STALLED_S = 10.0


@dataclass(frozen=True)
class Look:
    """One look at a run: what is stored, what the gate says."""

    progress: Progress
    gate: GateState


def looks(store: Store, limiter: Limiter, backfill: Backfill) -> Iterator[Look]:
    """A look every now and then, until nothing is missing; the last one shows that."""
    while True:
        begun = time.monotonic()
        progress = measure(store, backfill)
        yield Look(progress, limiter.look())
        if not progress.total.missing:
            return
        time.sleep(max(LOOK_S, 3 * (time.monotonic() - begun)))


def follow(store: Store, limiter: Limiter, backfill: Backfill, *, quiet: bool = False) -> Progress:
    """Show the run until it ends; returns how it ended.

    Raises Forbidden when the key is refused, UsageError when no worker runs. What the broker lost is
    enqueued again.
    """
    out = console(quiet=quiet)
    stalled = _Stall(backfill)
    with Live(console=out, auto_refresh=False, transient=not out.is_terminal) as live:
        for look in looks(store, limiter, backfill):
            if out.is_terminal:
                live.update(live_view(look.progress, look.gate), refresh=True)
            if look.gate.stopped:
                raise Forbidden(look.gate.shut)
            if stalled.for_long(look):
                stalled.mend(store, look)
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


class _Stall:
    """Notices that nothing moves though the gate is open, and finds out why."""

    def __init__(self, backfill: Backfill) -> None:
        self._backfill = backfill
        self._stored, self._since = -1, time.monotonic()

    def for_long(self, look: Look) -> bool:
        stored, now = look.progress.total.stored, time.monotonic()
        if stored != self._stored or look.gate.shut:
            self._stored, self._since = stored, now
        return now - self._since > max(STALLED_S, 3 / look.gate.current_per_s)

    def mend(self, store: Store, look: Look) -> None:
        self._since = time.monotonic()
        try:
            waiting = queued()
        except NotNow:
            return  # Redis is away: the workers wait for it too
        if not sum(waiting.values()):
            begin(store, self._backfill)
        elif not app.control.ping(timeout=2.0):
            raise UsageError(
                f"no worker answers and {look.progress.total.missing:,} pages are missing; start some with "
                "`celery -A worker.app worker` or `reelhaul standalone`, then run this command again"
            )
