"""`reelhaul emulator`: serve an emulated TMDB on loopback."""

import gc
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sandbox.emulator.api import TmdbApi
from sandbox.emulator.app import EmulatorApp, Service
from sandbox.emulator.catalog import Catalog
from sandbox.emulator.clock import EmulatorClock
from sandbox.emulator.control import ControlPlane
from sandbox.emulator.faults import FaultPlan, FaultSyntaxError, parse_fault
from sandbox.emulator.items import CatalogError, read_catalog
from sandbox.emulator.limit import RequestLimit
from sandbox.emulator.server import listen, serve
from sandbox.emulator.synthetic import synthetic_movies


def emulator(  # noqa: PLR0913, PLR0917 -- one argument for each option
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", metavar="PORT")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.", metavar="HOST")] = "127.0.0.1",
    catalog: Annotated[
        Path | None,
        typer.Option(
            help="Movies as JSON Lines of TMDB list items, plain or .gz.",
            metavar="FILE",
            show_default="synthetic",
        ),
    ] = None,
    movies: Annotated[
        int, typer.Option(help="Number of synthetic movies, without --catalog.", metavar="N")
    ] = 2000,
    seed: Annotated[
        int, typer.Option(help="Seed of the synthetic movies and of the faults' probabilities.", metavar="N")
    ] = 7,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests per second above which 429 is answered.", metavar="N", show_default="no limit"
        ),
    ] = None,
    capacity: Annotated[
        float | None,
        typer.Option(
            help="Burst that --rate allows.", metavar="N", show_default="0.35 s of --rate, at least 2"
        ),
    ] = None,
    latency_ms: Annotated[
        float, typer.Option(help="Wait before every response, in milliseconds.", metavar="MS")
    ] = 0.0,
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="A key or token to accept; repeatable.", metavar="KEY", show_default='any but "wrong..."'
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="A fault to inject; repeatable.", metavar="KIND[=VALUE][:CONDITION...]"),
    ] = None,
    old_page_error: Annotated[
        bool, typer.Option("--old-page-error", help="Answer pages above 500 with the 422 of 2019 to 2022.")
    ] = False,
) -> None:
    """Serve an emulated TMDB and print its base address; ends on SIGTERM or Ctrl-C."""
    for is_valid, rule in (
        (0 <= port <= 65535, f"--port must be 0 to 65535, got {port}"),
        (movies >= 0, f"--movies must be 0 or more, got {movies}"),
        (rate is None or rate > 0, f"--rate must be above 0, got {rate}"),
        (capacity is None or capacity >= 1, f"--capacity must be 1 or more, got {capacity}"),
        (latency_ms >= 0, f"--latency-ms must be 0 or more, got {latency_ms}"),
    ):
        if not is_valid:
            _fail(rule)
    try:
        faults = [parse_fault(spec) for spec in fault or ()]
        loaded = Catalog(read_catalog(catalog) if catalog else synthetic_movies(movies, seed))
    except (CatalogError, FaultSyntaxError) as error:
        _fail(str(error))
    # Movies live as long as the process; the garbage collector need not examine them.
    gc.freeze()
    clock = EmulatorClock()
    service = Service(
        catalog=loaded,
        clock=clock,
        api=TmdbApi(loaded, clock, old_page_error=old_page_error),
        limit=RequestLimit(rate, capacity),
        faults=FaultPlan(faults, seed, began_s=time.monotonic()),
        seed=seed,
        latency_ms=latency_ms,
        keys=frozenset(key or ()),
    )
    try:
        listener = listen(host, port)
    except OSError as error:
        _fail(f"cannot listen on {host}:{port}: {error.strerror or error}")
    serve(EmulatorApp(service, ControlPlane(service).app()), listener, typer.echo)


def _fail(message: str) -> NoReturn:
    typer.echo(f"reelhaul: {message}", err=True)
    raise typer.Exit(2)
