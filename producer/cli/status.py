"""`reelhaul status`: how far every backfill is, what holds it back, and the same as a picture."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live

from producer.bottleneck import bottleneck
from producer.charts.coverage_html import Grid, grid, write, write_html
from producer.cli.render import console, gate_line, pace, status_tables
from producer.progress import Progress, measure_all
from worker.clients import limiter, redis_client, storage
from worker.durations import format_duration
from worker.errors import RedisUnavailable, UsageError
from worker.limiter.state import LimiterState
from worker.monitoring.stats import fleet_stats
from worker.queues import lengths
from worker.settings import settings

WATCH_S = 1.0
#: What passes the retention within this is about to.
SOON = timedelta(days=14)


@dataclass(frozen=True)
class Report:
    """Everything that `status` shows; without Redis there is no gate and no word on the fleet."""

    everything: list[Progress]
    gate: LimiterState | None
    held_back_by: str
    #: Pages that will have passed the retention in SOON, unless they are fetched again.
    expiring: int

    def as_list(self) -> list[dict[str, object]]:
        """For JSON: backfills, the latest first, the fleet's figures with each."""
        gate = self.gate
        figures = {
            "requests_per_s": round(gate.granted_per_s(10), 2) if gate else None,
            "limit_per_s": round(gate.current_per_s, 4) if gate else None,
            "held_back_by": self.held_back_by if gate else None,
            "pages_expiring": self.expiring,
        }
        per_s = pace(gate) if gate else None
        return [progress.as_dict(per_s) | figures for progress in self.everything]


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Draw genres by years, with counts.", metavar="FILE")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Draw genres by years.", metavar="FILE")] = None,
) -> None:
    """How far every backfill is, by genre and year, and what holds it back."""
    out = console()
    if html or png:
        whole = grid(measure_all(storage()))
        if html:
            write_html(whole, html)
        if png:
            _write_png(whole, png)
    elif as_json:
        typer.echo(json.dumps(report().as_list()))
    elif watch:
        _watch()
    else:
        out.print(_shown(report()))


def _write_png(whole: Grid, target: Path) -> None:
    try:
        from producer.charts.coverage_png import draw  # noqa: PLC0415 -- of an extra, and slow
    except ImportError:
        need = "--png needs matplotlib: pip install 'reelhaul[pictures]'; --html does not"
        raise UsageError(need) from None
    write(target, draw(whole))


def report() -> Report:
    """As of now; four questions to Redis, and MongoDB read once."""
    everything = measure_all(storage())
    expiring = storage().pages.count_fetched_before(
        storage().mongo.now() - settings().reelhaul_retention + SOON
    )
    with suppress(RedisUnavailable):
        gate = limiter().state()
        return Report(everything, gate, bottleneck(gate, fleet_stats(redis_client()), lengths()), expiring)
    return Report(everything, None, "Redis does not answer", expiring)


def _watch() -> None:
    out = console()
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        while True:
            begun = time.monotonic()
            shown = _shown(report())
            if out.is_terminal:
                live.update(shown, refresh=True)
            else:
                out.print(shown)
            time.sleep(max(WATCH_S, 3 * (time.monotonic() - begun)))


def _shown(now: Report) -> Group:
    if not now.everything:
        return Group("nothing was asked for yet: `reelhaul backfill --help`")
    lines = [gate_line(now.gate)] if now.gate else []
    if not now.gate or any(progress.total.missing for progress in now.everything):
        lines.append(f"held back by {now.held_back_by}")
    if now.expiring:
        lines.append(_expiring(now.expiring))
    return Group(*lines, *(part for progress in now.everything for part in status_tables(progress, now.gate)))


def _expiring(pages: int) -> str:
    retention = settings().reelhaul_retention
    younger = format_duration(max(retention - SOON, timedelta(0)))
    return (
        f"{pages:,} page{'s' if pages > 1 else ''} pass{'' if pages > 1 else 'es'} REELHAUL_RETENTION "
        f"({format_duration(retention)}) within {format_duration(SOON)}: "
        f"`reelhaul refresh --max-age {younger} --years ...`"
    )
