"""Everything on this machine in one command: servers where none answer, workers, beat, Flower."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from sandbox.embedded import EmbeddedServer, accepts_connections
from sandbox.fleet import Fleet, ending_in_order
from sandbox.processes import SandboxError
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from worker.errors import UsageError
from worker.settings import settings

CHECK_S = 1.0
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def standalone(
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1, max=64)] = 2,
    flower_port: Annotated[int, typer.Option(help="Where Flower listens, on loopback.")] = 5555,
    folder: Annotated[Path, typer.Option(help="For data and logs.", metavar="FOLDER")] = Path(
        "reelhaul-data"
    ),
) -> None:
    """Run a whole fleet here until Ctrl-C; Redis and MongoDB too, unless they answer already."""
    settings().require_key()
    try:
        with ending_in_order(), ExitStack() as stack:
            _run(stack, workers, flower_port, folder)
    except SandboxError as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        typer.echo("stopped")


def _run(stack: ExitStack, workers: int, flower_port: int, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {folder}: cannot be made: {error.strerror}") from None
    redis, mongo = settings().redis_url.get_secret_value(), settings().mongo_url.get_secret_value()
    _provide(stack, "REDIS_URL", _address(redis, 6379), EmbeddedRedis, folder)
    _provide(stack, "MONGO_URL", _address(mongo, 27017), EmbeddedMongo, folder)
    fleet = stack.enter_context(Fleet(os.environ, folder, settings().reelhaul_metrics_port))
    fleet.flower(flower_port)
    fleet.beat()
    for _ in range(workers):
        fleet.worker()
    if fleet.metrics_ports:
        typer.echo(f"metrics at {fleet.metrics(settings().reelhaul_metrics_address)}")
    typer.echo(
        f"{workers} workers, beat, and Flower at http://127.0.0.1:{flower_port}; "
        f"logs in {folder}; Ctrl-C ends it"
    )
    while True:
        fleet.check()
        time.sleep(CHECK_S)


def _provide(
    stack: ExitStack, name: str, address: tuple[str, int], server: type[EmbeddedServer], folder: Path
) -> None:
    """Use what answers at the address, else start a server of our own there."""
    host, port = address
    if host not in _LOOPBACK:
        typer.echo(f"{name}: using {host}:{port}")
    elif accepts_connections(port):
        typer.echo(f"{name}: using what answers on port {port}")
    else:
        stack.enter_context(server(port=port, folder=folder / server.name.lower()))
        typer.echo(f"{name}: started an embedded {server.name} on port {port}")


def _address(url: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or default_port
