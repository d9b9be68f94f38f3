"""Bad input is one clear line on stderr and exit code 2: no traceback, nothing half done."""

import json
import re
import socket
import subprocess

import pytest
import redis

from sandbox.embedded import free_port
from tests.support.comparison import page_requests
from tests.support.stage import Stage, wait_for

pytestmark = pytest.mark.acceptance

WRONG = "wrong-token-of-nobody"
KEY_REJECTED = r"reelhaul: TMDB .* the key \(HTTP 401: .*\): check TMDB_TOKEN"


def assert_one_line(ended: subprocess.CompletedProcess[str], pattern: str) -> None:
    """One line that matches, on stderr alone, and exit code 2."""
    assert ended.returncode == 2, f"{ended.stdout}{ended.stderr}"
    assert re.match(pattern, ended.stderr), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["backfill", "--years", "2020..2010"], r"reelhaul: --years '2020..2010': 2020 comes after 2010"),
        (
            ["export", "movies.txt"],
            r"reelhaul: movies.txt: expected a file that ends in .parquet, .arrow, .csv",
        ),
        (["export", "nowhere/movies.jsonl"], r"reelhaul: nowhere/movies.jsonl: cannot be written"),
    ],
)
def test_bad_arguments(stage: Stage, arguments: list[str], pattern: str) -> None:
    """tests/unit/test_cli.py has more, without processes."""
    assert_one_line(stage.reelhaul(*arguments), pattern)


def test_age_before_all_dates_is_only_long(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    planned = stage.reelhaul("backfill", "--years", "2020", "--max-age", "999999d", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith("19 cells")


def test_unknown_genre_lists_the_known_ones(stage: Stage) -> None:
    server = stage.emulator("--movies", "10")
    for genres in ("Dramma", "18,9999"):
        ended = stage.reelhaul("backfill", "--genres", genres, "--years", "2020")
        assert_one_line(ended, r"reelhaul: --genres: unknown genre '.*'; expected all or some of: ")
        assert "Science Fiction (878)" in ended.stderr
        assert ended.stderr.count("(") == 19
    assert page_requests(server) == {}


def test_no_key(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    stage.environment["TMDB_TOKEN"] = ""
    for command in ("backfill", "standalone"):
        assert_one_line(stage.reelhaul(command), r"reelhaul: no TMDB key: set TMDB_TOKEN .* or TMDB_API_KEY")
    worker = stage.worker()
    assert worker.wait(30) == 2
    assert "no TMDB key: set TMDB_TOKEN" in worker.log_text()
    assert "Traceback" not in worker.log_text()


@pytest.mark.parametrize("command", [["backfill"], ["export", "movies.jsonl"]])
def test_mongodb_unavailable(stage: Stage, command: list[str]) -> None:
    stage.emulator("--movies", "10")
    nowhere = f"mongodb://user:s3cr3t@127.0.0.1:{free_port()}/reelhaul"
    ended = stage.reelhaul(*command, MONGO_URL=nowhere)
    assert_one_line(ended, r"reelhaul: MongoDB: .*127\.0\.0\.1.*`reelhaul doctor`")
    assert "s3cr3t" not in ended.stderr
    assert len(ended.stderr) < 400
    assert not (stage.folder / "movies.jsonl").exists()


def test_redis_unavailable(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    ended = stage.reelhaul("backfill", REDIS_URL=f"redis://:s3cr3t@127.0.0.1:{free_port()}/0")
    assert_one_line(ended, r"reelhaul: Redis: .*127\.0\.0\.1.*`reelhaul doctor`")
    assert "s3cr3t" not in ended.stderr
    assert list(stage.database["requests"].find()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REELHAUL_RATE", "-1"),
        ("REELHAUL_CONCURRENCY", "none"),
        ("REDIS_URL", "http://:s3cr3t@127.0.0.1"),
        ("MONGO_URL", "s3cr3t"),
        ("MONGO_URL", "mongodb://user:s3cr3t@127.0.0.1:notaport/"),
        ("MONGO_URL", "mongodb://user:s3cr3t@127.0.0.1/a b"),
        ("REDIS_URL", "redis://:s3cr3t@127.0.0.1:notaport/0"),
    ],
)
def test_invalid_setting(stage: Stage, name: str, value: str) -> None:
    stage.emulator("--movies", "10")
    ended = stage.reelhaul("backfill", "--years", "2020", **{name: value})
    assert_one_line(ended, rf"reelhaul: {name}\b")
    assert "s3cr3t" not in ended.stderr


class TestWrongKey:
    def test_wrong_key_of_a_command_stops_nobody_else(self, stage: Stage) -> None:
        server = stage.emulator("--movies", "1000")
        worker = stage.worker()
        command = ("backfill", "--genres", "War", "--years", "2015..2019")
        assert_one_line(stage.reelhaul(*command, TMDB_TOKEN=WRONG), KEY_REJECTED)
        assert list(stage.database["failures"].find()) == []
        right = stage.reelhaul(*command)
        assert right.returncode == 0, right.stderr
        assert stage.progress()["missing"] == 0
        assert set(page_requests(server).values()) == {1}
        assert worker.running

    @pytest.mark.timeout(120)
    def test_wrong_key_of_a_worker_stops_the_fleet_and_quarantines_nothing(self, stage: Stage) -> None:
        server = stage.emulator("--movies", "1000", "--key", "a-token-of-nobody")
        command = ("backfill", "--genres", "War,Drama", "--years", "2010..2019")
        right, stage.environment["TMDB_TOKEN"] = stage.environment["TMDB_TOKEN"], WRONG
        worker = stage.worker()
        assert_one_line(stage.reelhaul(*command, TMDB_TOKEN=right), KEY_REJECTED)
        wait_for(lambda: "(HTTP 401" in worker.log_text(), watching=[worker])
        assert "Traceback" not in worker.log_text()
        assert list(stage.database["failures"].find()) == []
        assert list(stage.database["pages"].find()) == []
        assert server.stats()["by_status"]["401"] <= 8, "at most one for each thread"

        stage.kill_workers()
        stage.children.clear()
        stage.environment["TMDB_TOKEN"] = right
        with redis.Redis.from_url(stage.redis_url) as client:  # no wait for the dead worker's messages
            client.delete("{reelhaul}:unacked", "{reelhaul}:unacked_index")
        stage.worker()
        again = stage.reelhaul(*command)
        assert again.returncode == 0, again.stderr
        assert stage.progress()["missing"] == 0
        assert list(stage.database["failures"].find()) == []

    @pytest.mark.timeout(120)
    def test_key_is_revoked_and_restored_halfway(self, stage: Stage) -> None:
        server = stage.emulator("--movies", "2000", "--fault", "status=401/json:match=gte=2012")
        stage.worker()
        command = ("backfill", "--genres", "Drama", "--years", "2010..2019")
        assert_one_line(stage.reelhaul(*command), KEY_REJECTED)
        server.configure(faults=[])
        again = stage.reelhaul(*command)
        assert again.returncode == 0, again.stderr
        assert stage.progress()["missing"] == 0
        assert list(stage.database["failures"].find()) == []


class TestCatalogue:
    GOOD = json.dumps({"id": 1, "genre_ids": [18], "release_date": "2020-01-01"})

    @pytest.mark.parametrize("bad", ["no json", '{"id": 1}'])
    @pytest.mark.parametrize("command", ["emulator", "demo"])
    def test_bad_line_is_named_by_file_and_number(self, stage: Stage, command: str, bad: str) -> None:
        path = stage.folder / "movies.jsonl"
        path.write_text(f"{self.GOOD}\n\n{bad}\n")
        ended = stage.reelhaul(command, "--catalog", str(path))
        assert_one_line(ended, rf".*{re.escape(str(path))}, line 3: ")

    @pytest.mark.parametrize("command", ["emulator", "demo"])
    def test_no_such_file(self, stage: Stage, command: str) -> None:
        ended = stage.reelhaul(command, "--catalog", "no-such.jsonl")
        assert_one_line(ended, r".*no-such\.jsonl: No such file or directory")


class TestPortInUse:
    def test_emulators_port(self, stage: Stage) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ended = stage.reelhaul("emulator", "--movies", "1", "--port", str(port))
        assert_one_line(ended, rf"reelhaul: cannot listen on 127\.0\.0\.1:{port}: Address already in use")

    def test_flowers_port(self, stage: Stage) -> None:
        stage.emulator("--movies", "1")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ended = stage.reelhaul("standalone", "--flower-port", str(port))
        assert_one_line(ended, rf"reelhaul: port {port} is in use: .* choose another for Flower")
