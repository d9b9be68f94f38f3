"""The main job on this machine alone: embedded servers, an emulated TMDB, two workers, one backfill."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from producer.cli.backfill import new_backfill
from producer.cli.follow import follow, summary
from producer.cli.render import console
from producer.enqueue import enqueue_backfill
from producer.plan import parse_years
from producer.progress import Progress
from sandbox.embedded import free_port
from sandbox.emulator.items import CatalogError, read_catalog
from sandbox.fleet import Fleet, ending_in_order
from sandbox.processes import SandboxError
from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from worker.clients import storage
from worker.errors import UsageError
from worker.settings import settings

MOVIES, SEED = 20_000, 7
GENRES, YEARS = "Drama,Comedy,Thriller,Horror,War", "2001..2025"
CAPACITY = 5
WORKERS = 2
#: Milliseconds the emulator takes for an answer, about what TMDB takes.
LATENCY_MS = 100
#: What the emulator enforces beyond the fleet's own capacity: this share of a second's requests.
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
    rate: Annotated[int, typer.Option(help="Requests a second, for the fleet.", min=1, max=1000)] = 30,
) -> None:
    """Watch a backfill from an empty machine: no key, no Docker, under a minute."""
    try:
        with ending_in_order():
            _demo(catalog, rate, as_json=as_json, keep=keep)
    except SandboxError as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _demo(catalog: Path | None, rate: int, *, as_json: bool, keep: bool) -> None:
    # Read before anything starts: a bad line is told at once.
    genres, years = ("all", _years_of(catalog)) if catalog else (GENRES, YEARS)
    chosen = parse_years(years)
    with _sandbox(catalog, rate) as (fleet, emulator):
        out = console()
        out.print(f"emulated TMDB at {emulator.base_url}, limit {rate}/s; two workers with 16 slots each")
        if fleet.metrics_ports:
            out.print(f"metrics at {fleet.metrics(settings().reelhaul_metrics_address)}", soft_wrap=True)
        if keep:  # before there is anything to see, so that all of it is seen
            port = free_port()
            fleet.flower(port)
            out.print(
                f"Flower at http://127.0.0.1:{port}; REDIS_URL={os.environ['REDIS_URL']}", soft_wrap=True
            )
            out.print(f"MONGO_URL={os.environ['MONGO_URL']}; Ctrl-C ends it all", soft_wrap=True)
        ended = _haul(genres, chosen)
        out.print(summary(ended))
        figures = _summary(ended, emulator, rate)
        if as_json:
            typer.echo(json.dumps(figures))
        else:
            out.print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))
        if keep:
            signal.pause()


@contextmanager
def _sandbox(catalog: Path | None, rate: int) -> Iterator[tuple[Fleet, EmulatorProcess]]:
    served = ["--catalog", str(catalog)] if catalog else ["--movies", str(MOVIES), "--seed", str(SEED)]
    enforced = ["--rate", str(rate), "--capacity", str(CAPACITY + round(rate * SLACK_S))]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reelhaul-demo-")))
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        mongo = stack.enter_context(EmbeddedMongo())
        emulator = stack.enter_context(EmulatorProcess(*served, *enforced, "--latency-ms", str(LATENCY_MS)))
        os.environ.update(
            REDIS_URL=redis.url,
            MONGO_URL=f"{mongo.url}/reelhaul",
            TMDB_BASE_URL=emulator.base_url,
            TMDB_TOKEN="a-token-of-nobody",  # noqa: S106 -- the emulator takes any
            REELHAUL_RATE=str(rate),
            REELHAUL_CAPACITY=str(CAPACITY),
            REELHAUL_RUN_FOLDER=str(folder),
        )
        fleet = stack.enter_context(Fleet(os.environ, folder, settings().reelhaul_metrics_port))
        for _ in range(WORKERS):
            fleet.worker()
        fleet.wait_until_ready(WORKERS)
        yield fleet, emulator


def _haul(genres: str, years: list[int]) -> Progress:
    """The backfill, followed until it ends; its Progress."""
    wanted = new_backfill(genres, years, settings().reelhaul_retention)
    enqueue_backfill(storage(), wanted)
    return follow(wanted)


def _years_of(catalog: Path) -> str:
    """All years in which the catalogue's movies came out; UsageError names the line that cannot be served."""
    try:
        years = {movie.release_date[:4] for movie in read_catalog(catalog)} - {""}
    except CatalogError as error:
        raise UsageError(str(error)) from None
    if not years:
        raise UsageError(f"{catalog}: no movie has a release_date")
    return ",".join(sorted(years))


def _summary(ended: Progress, emulator: EmulatorProcess, rate: int) -> dict[str, int | float]:
    """The run in figures, requests judged by the emulator's own log."""
    total, stats = ended.total, emulator.stats()
    seconds = stats["last_arrival_s"] - stats["first_arrival_s"]
    requests = stats["arrivals"]
    return {
        "pages_planned": total.planned,
        "pages_stored": total.stored,
        "missing": total.missing,
        "movies": ended.movies,
        "requests": requests,
        "refused": stats["by_status"].get("429", 0),
        "limit_utilisation": round((requests - CAPACITY) / (rate * seconds), 4),
        "seconds": round(seconds, 2),
    }
