"""`reelhaul standalone`: a fleet on this machine, with servers where none answer."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from sandbox.embedded import EmbeddedServer, accepts_connections
from sandbox.fleet import Fleet, interrupt_on_sigterm
from sandbox.processes import SandboxError
from sandbox.servers import EmbeddedMongo, EmbeddedRedis, Mongod, MongoServer
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
    _provide(fleet, "REDIS_URL", redis, 6379, lambda _: (EmbeddedRedis, "an embedded Redis"))
    _provide(fleet, "MONGO_URL", mongo, 27017, choose_mongo)
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


#: Chooses a server for the fleet's folder: its class and, for a person, what it is.
_Choice = Callable[[Path], tuple[type[EmbeddedServer], str]]


def _provide(fleet: Fleet, name: str, url: str, default_port: int, choose: _Choice) -> None:
    """Start a server at the URL's port, unless it is another machine's or one answers there."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or default_port
    if host not in _LOOPBACK:
        typer.echo(f"{name}: using {host}:{port}")
    elif accepts_connections(port):
        typer.echo(f"{name}: using the server on port {port}")
    else:
        server, title = choose(fleet.folder)
        # The URL that was given stays: it may name a database.
        fleet.serve(server(port=port, folder=_folder(fleet.folder, server)), set_address=False)
        typer.echo(f"{name}: started {title} on port {port}")


def choose_mongo(folder: Path) -> tuple[type[MongoServer], str]:
    """The server whose data is in the folder; else the `mongod` on PATH, else the embedded one.

    Neither reads the other's files: another server than last time would show an empty database. Raises
    SandboxError when the data is mongod's and PATH has none.
    """
    program = Mongod.program()
    mongod, embedded = (_folder(folder, server) / "storage" for server in (Mongod, EmbeddedMongo))
    if mongod.exists() and not program:
        raise SandboxError(
            f"the data in {mongod.parent} is mongod's, and no mongod is on PATH: "
            "put it on PATH, or choose another --folder"
        )
    if not program:
        return EmbeddedMongo, "an embedded MongoDB (SecantusDB, a beta; no mongod is on PATH)"
    if embedded.exists() and not mongod.exists():
        return EmbeddedMongo, f"an embedded MongoDB (SecantusDB, a beta; {embedded.parent} holds its data)"
    return Mongod, program


def _folder(folder: Path, server: type[EmbeddedServer]) -> Path:
    """Where the server has its files."""
    return folder / server.name.lower()
