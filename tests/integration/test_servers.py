"""The embedded servers: they start, keep their data, and end with the process that started them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis
import requests
from pymongo.write_concern import WriteConcern

from sandbox.embedded import EmbeddedServer
from sandbox.processes import SandboxError, spawn
from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess

GONE_WITHIN_S = 20.0


def test_redis_answers(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.set("key", "value")
        assert client.get("key") == b"value"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_mongo_answers(mongo_url: str) -> None:
    with connect(mongo_url) as client:
        movies = client.get_default_database()["movies"]
        movies.insert_one({"_id": 603, "title": "The Matrix"})
        assert movies.find_one({"_id": 603}) == {"_id": 603, "title": "The Matrix"}


def test_redis_keeps_its_keys_after_a_kill(tmp_path: Path) -> None:
    with EmbeddedRedis(folder=tmp_path / "redis") as server:
        url, pid = server.url, server.pid
        with redis.Redis.from_url(url) as client:
            client.rpush("queue", "message")
        server.kill()
        server.start()
        assert server.url == url
        assert server.pid != pid
        with redis.Redis.from_url(url) as client:
            assert client.lrange("queue", 0, -1) == [b"message"]


def test_mongo_keeps_its_documents_after_a_kill(tmp_path: Path) -> None:
    with EmbeddedMongo(folder=tmp_path / "mongo") as server:
        with connect(server.url) as client:
            pages = client["reelhaul"].get_collection("pages", write_concern=WriteConcern(j=True))
            pages.insert_one({"_id": "18:1999:3"})
        server.kill()
        server.start()
        with connect(server.url) as client:
            assert client["reelhaul"]["pages"].count_documents({}) == 1


def test_a_given_folder_stays_and_a_temporary_one_is_removed(tmp_path: Path) -> None:
    with EmbeddedRedis(folder=tmp_path / "kept") as kept, EmbeddedRedis() as scratch:
        temporary = scratch.folder
        assert temporary.is_dir()
    assert kept.folder.is_dir()
    assert not temporary.exists()


def test_the_emulator_counts_is_configured_and_restarts_on_its_port(
    emulator: Callable[..., EmulatorProcess],
) -> None:
    server = emulator("--movies", "50")
    url = server.base_url
    assert requests.get(f"{url}/discover/movie", params={"api_key": "any"}, timeout=10).status_code == 200
    assert server.stats()["arrivals"] == len(server.log()) == 1
    server.reset()
    assert server.log() == []
    with pytest.raises(SandboxError, match=r"rejects POST config: .*no_such_option"):
        server.configure(no_such_option=1)
    server.kill()
    assert server.start().base_url == url


@pytest.mark.parametrize("server_class", [EmbeddedRedis, EmbeddedMongo, EmulatorProcess])
def test_a_port_in_use_is_a_one_line_error(server_class: type[EmbeddedServer]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = server_class(port=port)
        with pytest.raises(SandboxError, match=rf"^port {port} is in use: .* choose another .*\Z"):
            server.start()
        server.stop()


def test_the_error_of_a_command_that_ends_early_quotes_its_output(tmp_path: Path) -> None:
    child = spawn([sys.executable, "-c", "raise SystemExit('no such catalog')"], log_path=tmp_path / "log")
    with pytest.raises(SandboxError, match=r"SystemExit.*ended with status 1:\nno such catalog"):
        child.wait_until(lambda: False, timeout_s=10)
    child.stop()


def test_the_error_of_an_unknown_command_names_it(tmp_path: Path) -> None:
    child = spawn(["no-such-server"], log_path=tmp_path / "log")
    with pytest.raises(SandboxError, match="cannot run no-such-server: No such file"):
        child.wait_until(lambda: False, timeout_s=10)
    child.stop()


def test_stop_kills_a_process_that_ignores_sigterm(tmp_path: Path) -> None:
    script = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
    child = spawn([sys.executable, "-c", script], log_path=tmp_path / "log")
    child.wait_until(lambda: "ready" in child.log_text(), timeout_s=10)
    assert child.stop(grace_s=0.2) == -signal.SIGKILL


PARENT = """
import sys, time
from pathlib import Path
from sandbox.servers import EmbeddedMongo, EmbeddedRedis

servers = [EmbeddedRedis(folder=Path(sys.argv[1], "redis")), EmbeddedMongo(folder=Path(sys.argv[1], "mongo"))]
print(*(server.start().pid for server in servers), flush=True)
time.sleep(600)
"""


def test_servers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        parent.kill()
    deadline = time.monotonic() + GONE_WITHIN_S
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, (
            f"still running {GONE_WITHIN_S} s after the end of their parent: {pids}"
        )
        time.sleep(0.05)


def connect(url: str) -> pymongo.MongoClient[dict[str, Any]]:
    return pymongo.MongoClient(url)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie; without an init process ended orphans stay zombies."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    ps = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")
