"""Messages that are not ours are rejected and secrets are shown nowhere; with real processes throughout."""

import asyncio
import json
import pickle
import queue
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pymongo
import pytest
import requests
from redis import Redis

from sandbox.embedded import accepts_connections, free_port
from sandbox.fleet import Fleet
from sandbox.processes import ChildProcess, spawn
from sandbox.servers import EmbeddedMongo
from tests.chaos.harness import CELERY, PREFIX, TOKEN, Rig, children
from tests.support.messages import message
from tests.support.sockets import listening
from tests.support.stage import Stage, wait_for

pytestmark = pytest.mark.timeout(180)

Start = Callable[..., Rig]
HUGE = "9" * 5_000_000


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Start]:
    """Start servers with the options of `Rig`; all end after the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Rig(tmp_path, **options))


def call(*args: Any) -> bytes:
    """The body of a message that calls a task with these arguments."""
    return json.dumps(
        [args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    ).encode()


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_messages_that_are_not_ours_are_rejected_and_logged(rig: Start, tmp_path: Path, pool: str) -> None:
    run = rig(movies=2000, years=(2020, 2025))
    (worker,) = run.start_workers(("--pool", pool, "-c", "2"))
    bomb = tmp_path / "exploded"
    pickled = pickle.dumps([[Bomb(bomb)], {}, {}])
    yaml = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{bomb}]]"
    bad = {
        "pickle": message(pickled, "application/x-python-serialize"),
        "yaml": message(yaml.encode(), "application/x-yaml"),
        "unknown task": message(call(18, "2020", 1), task="os.system"),
        "not JSON": message(b"{", "application/json"),
        "no arguments": message(b"{}"),
        "a number": message(b"5"),
        "an empty list": message(b"[]"),
        "too few arguments": message(call(18)),
        "too many": message(call(99, "2020", 1, 0, 0, 0)),
        "wrong types": message(call({}, None, [1])),
        "not a window": message(call(18, "2020-13-45", 1)),
        "a huge string": message(call(18, HUGE, 1)),
        "a huge number": message(call(HUGE, "2020", 1)),
        "not a time": message(call(18, "2020", 1, "never")),
        "a time after the year 3000": message(call(18, "2020", 1, 10**30)),
        "broken base64": message(call(18, "2020", 1)).replace('"body": "', '"body": "x'),
        "not a movie": message(call("603"), task="reelhaul.fetch_movie"),
        "a huge movie": message(call(10**30), task="reelhaul.fetch_movie"),
        "not a day": message(call("yesterday", 1), task="reelhaul.fetch_changes"),
        "no page of changes": message(call("2026-01-01", "$gt"), task="reelhaul.fetch_changes"),
        "too many popular pages": message(call(1, 0, 10**30), task="reelhaul.fetch_popular"),
        "totals of nothing": message(call({}, []), task="reelhaul.fetch_totals"),
        "an unknown part": message(call(603, 0, "../.."), task="reelhaul.fetch_movie"),
    }
    junk = (b"\xff\xfe\x00", b"no JSON", b"5", b"{}", b'{"properties": {}}', b"[[],{},{}]", b"\0" * 99)
    with run.redis_client() as client:
        for text in (*bad.values(), *junk):
            client.lpush(f"{PREFIX}pages", text)
    run.until("all rejected", run.is_idle, 60)
    assert not bomb.exists()
    run.backfill()
    run.until("complete", lambda: run.stored() >= len(run.pages))
    assert run.compare().missing == []
    log = worker.log_text()
    assert len(log) < 1_000_000
    for text in ("pickle", "yaml", "os.system", "message rejected"):
        assert text in log, text


def test_no_secret_is_stored_or_shown_anywhere(rig: Start) -> None:
    """A run full of failures, with three secrets: TMDB's token, Redis' and Flower's password."""
    passwords = {"redis": "canary-redis-5c1d", "flower": "canary-flower-77aa"}
    run = rig(
        movies=2_000,
        years=(2022, 2025),
        redis_password=passwords["redis"],
        REELHAUL_LOG_LEVEL="DEBUG",
        FLOWER_BASIC_AUTH=f"reader:{passwords['flower']}",
    )
    secrets = [TOKEN, *passwords.values()]
    run.emulator.configure(faults=[*ERRORS, *(f"{fault}:p=0.05:match=discover" for fault in PASSING)])
    run.beat()
    run.start_workers((), ("--pool", "prefork", "-c", "2"))
    port = free_port()
    flower = run.flower(port)
    flower.wait_until(lambda: accepts_connections(port), 60)
    run.backfill()

    def quarantined() -> int:
        return run.database.failures.count_documents({})

    run.until("something is stored, something quarantined", lambda: run.stored() > 3 and bool(quarantined()))
    with run.redis_client() as client:
        shown = {"Redis": dump(client)}
    shown |= flower_pages(port, passwords["flower"])
    shown["inspect"] = run.celery("inspect", "conf") + run.celery("inspect", "stats") + run.celery("report")
    run.emulator.configure(faults=["error=7:match=discover"])
    run.reelhaul("refresh", "--max-age", "0s", *run.request(), "--detach")
    run.until(
        "key rejected",
        lambda: any("check TMDB_TOKEN or TMDB_API_KEY" in worker.log_text() for worker in run.workers),
    )
    shown["status"] = run.reelhaul("status", "--json")
    for collection in run.database.list_collection_names():
        shown[f"collection {collection}"] = repr(list(run.database[collection].find()))
    for log in run.folder.rglob("*.log"):
        shown[f"log {log.name}"] = log.read_text(encoding="utf-8", errors="replace")
    for file in (run.folder / "run").rglob("*"):
        if file.is_file():
            shown[f"file {file.name}"] = file.read_bytes().decode("utf-8", errors="replace")
    assert {where for where, text in shown.items() for secret in secrets if secret in text} == set()
    assert {"Redis", "inspect", "/workers", "/broker", "log worker1.log", "log beat.log"} <= shown.keys()


KEYS = {
    "a key": {"TMDB_TOKEN": "", "TMDB_API_KEY": "0123456789abcdef0123456789abcdef"},
    "a key that URLs escape": {"TMDB_TOKEN": "", "TMDB_API_KEY": 'canary+0f/key=of "nobody"'},
    "a token": {"TMDB_TOKEN": "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJub2JvZHkifQ.canary-_token"},
}


@pytest.mark.parametrize("name", KEYS)
def test_key_quoted_in_a_response_is_redacted(stage: Stage, name: str) -> None:
    """Servers and caches quote the URL, and some the Authorization header, in headers and bodies."""
    stage.environment |= {**KEYS[name], "REELHAUL_LOG_LEVEL": "DEBUG"}
    secret = stage.environment["TMDB_TOKEN"] or stage.environment["TMDB_API_KEY"]
    server = stage.emulator("--movies", "2000", "--key", secret)
    worker = stage.worker()
    years = {"echo=400": 2001, "echo=404": 2002, "echo=422": 2003, "echo": 2004}
    server.configure(faults=[f"{fault}:match=gte={year}-" for fault, year in years.items()])
    stage.send(cells=[(18, str(year), 1) for year in years.values()])
    failures, pages = stage.database["failures"], stage.database["pages"]
    wait_for(
        lambda: failures.count_documents({}) == 3 and bool(pages.find_one({"window": "2004"})),
        watching=[worker],
    )
    for failure in failures.find():
        assert failure["headers"]["content-location"].startswith("/3/discover/movie?")
        assert "[secret]" in repr(failure["headers"])
        assert b"[secret]" in failure["body"]
    shown = [stage.reelhaul("failures", "show", failure["_id"]).stdout for failure in failures.find()]
    shown += [stage.reelhaul("failures").stdout, stage.reelhaul("doctor").stdout, worker.log_text()]
    variable = "TMDB_TOKEN" if stage.environment["TMDB_TOKEN"] else "TMDB_API_KEY"
    assert f"{variable} is accepted by {server.base_url}" in shown[-2]
    shown += [repr(list(stage.database[name].find())) for name in stage.database.list_collection_names()]
    for form in {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}:
        assert not [text for text in shown if form in text], form


#: Failures that end in quarantine, and failures that pass.
ERRORS = ["status=404:match=page=2(&|$)", "status=500:p=0.1:match=discover"]
PASSING = "not-json reset=body close truncate html error-200 wrong-page hostile=surrogate".split()  # noqa: SIM905 -- one line


def dump(client: Redis) -> str:
    """Every key with its value."""
    readers: dict[Any, Callable[[Any], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    return repr([(key, readers[client.type(key)](key)) for key in client.scan_iter(count=1_000)])


def flower_pages(port: int, password: str) -> dict[str, str]:
    """What Flower shows with the password; without it, nothing."""
    base = f"http://127.0.0.1:{port}"
    pages: dict[str, str] = {}
    for path in ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks"):
        assert requests.get(base + path, timeout=10).status_code == 401, path
        answer = requests.get(base + path, auth=("reader", password), timeout=30)
        pages[path] = answer.text
        assert answer.status_code == 200 or path.startswith("/api"), path
    for worker in set(re.findall(r"worker\d+@[\w.-]+", pages["/workers"])):
        pages[f"/worker/{worker}"] = requests.get(
            f"{base}/worker/{worker}", auth=("reader", password), timeout=30
        ).text
    return pages


def test_mongodb_with_a_password(rig: Start, tmp_path: Path) -> None:
    with CustomMongo(folder=tmp_path / "guarded") as server:
        client: pymongo.MongoClient[dict[str, Any]]
        with pymongo.MongoClient(server.url) as client:
            roles = [{"role": "readWrite", "db": "reelhaul"}]
            client.admin.command("createUser", "hauler", pwd=MONGO_PASSWORD, roles=roles)
        server.restart("--auth")
        address = f"mongodb://hauler:{MONGO_PASSWORD}@127.0.0.1:{server.port}/reelhaul?authSource=admin"
        run = rig(movies=1_000, years=(2024, 2025), MONGO_URL=address)
        run.start_workers(())
        run.backfill()
        with pymongo.MongoClient(address) as client:
            pages: Any = client["reelhaul"]["pages"]
            run.until("complete", lambda: pages.count_documents({}) >= len(run.pages), 60)
        error = run.reelhaul_fails("status", MONGO_URL=address.replace(MONGO_PASSWORD, "wrong"))
        assert "MongoDB" in error
        assert all(MONGO_PASSWORD not in log.read_text() for log in run.folder.rglob("*.log"))


def test_tls_to_redis_and_mongodb(rig: Start, tmp_path: Path) -> None:
    key, cert = certificate(tmp_path)
    tls = ("--tls-cert-file", str(cert), "--tls-key-file", str(key))
    with ExitStack() as stack:
        mongo = stack.enter_context(CustomMongo(folder=tmp_path / "guarded", options=tls))
        address = f"mongodb://127.0.0.1:{mongo.port}/reelhaul?tls=true&tlsCAFile={cert}"
        run = rig(movies=1_000, years=(2024, 2025), MONGO_URL=address)
        port = stack.enter_context(tls_in_front_of(run.redis.port, key, cert))
        run.environment["REDIS_URL"] = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={cert}"
        run.start_workers((), REDIS_URL=run.environment["REDIS_URL"])
        run.backfill()
        client: pymongo.MongoClient[dict[str, Any]] = stack.enter_context(pymongo.MongoClient(address))
        pages = client["reelhaul"]["pages"]
        run.until("complete", lambda: pages.count_documents({}) >= len(run.pages), 60)
        # Without the CA, the certificate is not trusted.
        assert "Redis" in run.reelhaul_fails("backfill", "--detach", REDIS_URL=f"rediss://127.0.0.1:{port}/0")


def test_flower_counts_the_queues_over_tls_with_a_password(rig: Start, tmp_path: Path) -> None:
    key, cert = certificate(tmp_path)
    run = rig(movies=10, redis_password=REDIS_PASSWORD, FLOWER_BASIC_AUTH="reader:s3cret-enough")
    waiting = {"refresh": 1, "pages": 3, "cells": 2, "movies": 4}
    with run.redis_client() as client:
        for name, number in waiting.items():
            client.lpush(f"{PREFIX}{name}", *[message(call(18, "2020", 1))] * number)
    port = free_port()
    with ExitStack() as stack:
        tls = stack.enter_context(tls_in_front_of(run.redis.port, key, cert))
        address = f"rediss://:{REDIS_PASSWORD}@127.0.0.1:{tls}/0?ssl_ca_certs={cert}"
        fleet = stack.enter_context(Fleet({**run.environment, "REDIS_URL": address}, tmp_path))
        flower = fleet.flower(port)
        flower.wait_until(lambda: accepts_connections(port), 60)
        page = flower_pages(port, "s3cret-enough")["/broker"]
        rows = re.findall(r'<tr id="(\w+)">\s*<td>\w+</td>\s*<td[^>]*>(\d+)</td>', page)
        assert {name: int(number) for name, number in rows}.items() >= waiting.items(), flower.log_text()
        assert REDIS_PASSWORD not in page


def test_everything_listens_on_loopback_only(rig: Start) -> None:
    run = rig(movies=100)
    run.beat()
    run.start_workers((), ("--pool", "prefork", "-c", "2"))
    port = free_port()
    flower = run.flower(port)
    flower.wait_until(lambda: accepts_connections(port), 60)
    pids = [server.pid for server in (run.redis, run.mongo, run.emulator)]
    pids += [process.pid for process in run.processes]
    pids += [child for pid in pids for child in children(pid)]
    addresses = listening(pids)
    assert {port, run.redis.port, run.mongo.port, run.emulator.port} <= {number for _, number in addresses}
    assert {address for address, _ in addresses if not address.is_loopback} == set()


def test_flower_listens_on_loopback_by_default(rig: Start) -> None:
    """Started as in docs/operations.md: without an address and without a password."""
    run = rig(movies=10)
    port = free_port()
    command = [*CELERY, "flower", f"--port={port}", f"--db={run.folder / 'flower.db'}"]
    flower = spawn(command, env=run.environment, log_path=run.folder / "flower.log")
    try:
        flower.wait_until(lambda: accepts_connections(port), 60)
        addresses = {str(address) for address, number in listening([flower.pid]) if number == port}
        assert addresses == {"127.0.0.1"}
    finally:
        flower.kill()


MONGO_PASSWORD = "canary-mongo-19f0"  # noqa: S105 -- made up
REDIS_PASSWORD = "canary-redis-84be"  # noqa: S105 -- made up


class CustomMongo(EmbeddedMongo):
    """The embedded MongoDB with more options."""

    def __init__(self, *, folder: Path, options: tuple[str, ...] = ()) -> None:
        super().__init__(folder=folder)
        self._options = options

    def restart(self, *options: str) -> None:
        self.stop()
        self._options = options
        self.start()

    def _command(self, port: int, folder: Path) -> list[str]:
        return [*super()._command(port, folder), *self._options]

    def _answers(self, child: ChildProcess, port: int) -> bool:  # noqa: ARG002 -- the usual check needs a password
        return accepts_connections(port)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a self-signed certificate for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, cert = folder / "key.pem", folder / "cert.pem"
    options = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", *options.split(), *files], check=True, capture_output=True, timeout=60)
    return key, cert


@contextmanager
def tls_in_front_of(port: int, key: Path, cert: Path) -> Iterator[int]:
    """A port on loopback that forwards TLS to `port`: the embedded Valkey is built without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    loop = asyncio.new_event_loop()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pipe(reader, back), pipe(there, writer))
        finally:
            back.transport.abort()
            writer.transport.abort()

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        ready.put(server.sockets[0].getsockname()[1])
        await over.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # the loop closes aborted connections

    ready: queue.Queue[int] = queue.Queue()
    over = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield ready.get(timeout=10)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
