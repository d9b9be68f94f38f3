"""`reelhaul demo`: one backfill on this machine, with embedded servers, an emulated TMDB and two workers."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from producer.cli.backfill import new_backfill
from producer.cli.follow import follow
from producer.cli.render import console, summary
from producer.plan import parse_years
from producer.requests.request import Progress
from sandbox.embedded import free_port
from sandbox.emulator.items import CatalogError, read_catalog
from sandbox.fleet import Fleet, interrupt_on_sigterm
from sandbox.processes import SandboxError
from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from worker.clients import storage
from worker.errors import UsageError
from worker.settings import settings

MOVIES, SEED = 20_000, 7
GENRES, YEARS = "Drama,Comedy,Thriller,Horror,War", "2001..2025"
CAPACITY = 5
WORKERS = 2
#: About what TMDB takes for a response.
LATENCY_MS = 100
#: The emulator admits the fleet's own capacity and this many seconds' requests more.
SLACK_S = 0.1


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="End with the summary as one JSON object.")] = False,
    catalog: Annotated[
        Path | None,
        typer.Option(help="Movies to serve, JSON Lines; all of its years are hauled.", metavar="FILE"),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running, with Flower, until Ctrl-C.")
    ] = False,
    rate: Annotated[
        int, typer.Option(help="Requests per second, for the fleet.", metavar="N", min=1, max=1000)
    ] = 30,
) -> None:
    """Watch a backfill from an empty machine: no key, no Docker, under a minute."""
    try:
        with interrupt_on_sigterm():
            _demo(catalog, rate, as_json=as_json, keep=keep)
    except SandboxError as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _demo(catalog: Path | None, rate: int, *, as_json: bool, keep: bool) -> None:
    # Read before anything starts, so that a bad line is reported at once.
    genres, years = ("all", _years_of(catalog)) if catalog else (GENRES, YEARS)
    chosen = parse_years(years)
    with _fleet(catalog, rate) as (fleet, emulator):
        out = console()
        out.print(f"emulated TMDB at {emulator.base_url}, limit {rate}/s; {WORKERS} workers")
        if fleet.metrics_port:
            addresses = fleet.metrics_addresses(settings().reelhaul_metrics_address)
            out.print(f"metrics at {addresses}", soft_wrap=True)
        if keep:  # started before the first task, since Flower shows only what it has seen
            port = free_port()
            fleet.flower(port)
            redis, mongo = (fleet.environment[name] for name in ("REDIS_URL", "MONGO_URL"))
            out.print(f"Flower at http://127.0.0.1:{port}\nREDIS_URL={redis}", soft_wrap=True)
            out.print(f"MONGO_URL={mongo}\nCtrl-C ends it all", soft_wrap=True)
        wanted = new_backfill(genres, chosen, settings().reelhaul_retention)
        ended = follow(wanted)
        movies = storage().movies.count()
        out.print(summary(ended, movies))
        figures = _summary(ended, movies, emulator, rate)
        if as_json:
            typer.echo(json.dumps(figures))
        else:
            out.print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))
        if keep:
            signal.pause()


@contextmanager
def _fleet(catalog: Path | None, rate: int) -> Iterator[tuple[Fleet, EmulatorProcess]]:
    """The fleet, its workers ready; this process uses its environment too."""
    served = ["--catalog", str(catalog)] if catalog else ["--movies", str(MOVIES), "--seed", str(SEED)]
    enforced = ["--rate", str(rate), "--capacity", str(CAPACITY + round(rate * SLACK_S))]
    with (
        tempfile.TemporaryDirectory(prefix="reelhaul-demo-") as folder,
        Fleet(os.environ, Path(folder)) as fleet,
    ):
        fleet.serve(EmbeddedRedis(appendonly=False))
        fleet.serve(EmbeddedMongo())
        emulator = fleet.serve(EmulatorProcess(*served, *enforced, "--latency-ms", str(LATENCY_MS)))
        fleet.environment |= {
            "TMDB_TOKEN": "a-token-of-nobody",  # the emulator accepts any
            "REELHAUL_RATE": str(rate),
            "REELHAUL_CAPACITY": str(CAPACITY),
            "REELHAUL_RUN_FOLDER": folder,
        }
        os.environ.update(fleet.environment)
        fleet.metrics_port = settings().reelhaul_metrics_port
        for _ in range(WORKERS):
            fleet.worker()
        fleet.wait_until_ready(WORKERS)
        yield fleet, emulator


def _years_of(catalog: Path) -> str:
    """All years in which the catalogue's movies came out; UsageError names the line that cannot be served."""
    try:
        years = {movie.release_date[:4] for movie in read_catalog(catalog)} - {""}
    except CatalogError as error:
        raise UsageError(str(error)) from None
    if not years:
        raise UsageError(f"{catalog}: no movie has a release_date")
    return ",".join(sorted(years))


def _summary(ended: Progress, movies: int, emulator: EmulatorProcess, rate: int) -> dict[str, int | float]:
    """The run in figures; requests are counted by the emulator's log."""
    total, stats = ended.pages, emulator.stats()
    seconds = stats["last_arrival_s"] - stats["first_arrival_s"]
    requests = stats["arrivals"]
    return {
        "pages_planned": total.planned,
        "pages_stored": total.stored,
        "missing": total.missing,
        "movies": movies,
        "requests": requests,
        "refused": stats["by_status"].get("429", 0),
        "limit_utilisation": round((requests - CAPACITY) / (rate * seconds), 4),
        "seconds": round(seconds, 2),
    }
