"""`reelhaul standalone`: a fleet on this machine, with servers where none answer."""

import os
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from sandbox.embedded import EmbeddedServer, accepts_connections
from sandbox.fleet import Fleet, interrupt_on_sigterm
from sandbox.processes import SandboxError
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from worker.errors import UsageError
from worker.settings import settings

CHECK_S = 1.0
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def standalone(
    workers: Annotated[int, typer.Option(help="Worker processes.", metavar="N", min=1, max=64)] = 2,
    flower_port: Annotated[
        int, typer.Option(help="Flower's port on loopback.", metavar="PORT", min=0, max=65535)
    ] = 5555,
    folder: Annotated[Path, typer.Option(help="For data and logs.", metavar="FOLDER")] = Path(
        "reelhaul-data"
    ),
) -> None:
    """Run a whole fleet here until Ctrl-C; Redis and MongoDB too, unless they are running already."""
    settings().require_key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {folder}: cannot be made: {error.strerror}") from None
    try:
        with interrupt_on_sigterm(), Fleet(os.environ, folder, settings().reelhaul_metrics_port) as fleet:
            _run(fleet, workers, flower_port)
    except SandboxError as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        typer.echo("stopped")


def _run(fleet: Fleet, workers: int, flower_port: int) -> None:
    redis, mongo = settings().redis_url.get_secret_value(), settings().mongo_url.get_secret_value()
    _provide(fleet, "REDIS_URL", redis, 6379, EmbeddedRedis)
    _provide(fleet, "MONGO_URL", mongo, 27017, EmbeddedMongo)
    fleet.flower(flower_port)
    fleet.beat()
    for _ in range(workers):
        fleet.worker()
    if fleet.metrics_port:
        typer.echo(f"metrics at {fleet.metrics_addresses(settings().reelhaul_metrics_address)}")
    typer.echo(
        f"{workers} workers, beat, and Flower at http://127.0.0.1:{flower_port}; "
        f"logs in {fleet.folder}; Ctrl-C ends it"
    )
    while True:
        fleet.check()
        time.sleep(CHECK_S)


def _provide(fleet: Fleet, name: str, url: str, default_port: int, server: type[EmbeddedServer]) -> None:
    """Start an embedded server at the URL's port, unless it is another machine's or one answers there."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or default_port
    if host not in _LOOPBACK:
        typer.echo(f"{name}: using {host}:{port}")
    elif accepts_connections(port):
        typer.echo(f"{name}: using the server on port {port}")
    else:
        # The URL that was given stays: it may name a database.
        fleet.serve(server(port=port, folder=fleet.folder / server.name.lower()), set_address=False)
        typer.echo(f"{name}: started an embedded {server.name} on port {port}")
