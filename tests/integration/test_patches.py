"""Stock kombu, Celery and Flower still have the faults that worker/patches fixes, and our processes have not.

When a test of stock code fails, upstream has fixed it: delete the patch and the test.
"""

import base64
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import redis
import requests
from kombu import Connection
from kombu.transport import redis as stock_redis

from sandbox.embedded import free_port
from sandbox.processes import ChildProcess
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from tests.support.messages import message
from tests.support.stage import PATIENCE_S, Stage, wait_for
from worker.patches import kombu_redis

#: How often the stock transport is given the chance to die; it did in 11 of 11 trials.
TRIALS = 3
UNRECOVERABLE = "Unrecoverable error"


#: Modules for `celery -A`: our app without one patch.
WITHOUT_TRANSPORT = """
import worker.patches.kombu_redis
worker.patches.kombu_redis.install = lambda: None
from worker.app import app
"""
WITHOUT_STEP = """
import worker.patches.celery_events
worker.patches.celery_events.install = lambda app: None
from worker.app import app
"""
WITHOUT_STRATEGY = """
import worker.patches.celery_strategy
worker.patches.celery_strategy._is_call = lambda payload: True
from worker.app import app
"""


def stock(stage: Stage, source: str) -> str:
    """The module's name."""
    (stage.folder / "stock.py").write_text(source)
    stage.environment["PYTHONPATH"] = str(stage.folder)
    return "stock"


class TestKombuChannelClose:
    """A worker that loses Redis while some of its threads are busy and others are not."""

    @pytest.fixture
    def own_redis(self) -> Iterator[EmbeddedRedis]:
        with EmbeddedRedis() as server:
            yield server

    @pytest.fixture
    def fleet(self, tmp_path: Path, own_redis: EmbeddedRedis, mongo_server: EmbeddedMongo) -> Iterator[Stage]:
        mongo_url = f"{mongo_server.url}/reelhaul_test_{uuid4().hex[:12]}"
        with closing(Stage(tmp_path, own_redis.url, mongo_url)) as stage:
            stage.environment["REELHAUL_CONCURRENCY"] = "4"
            stage.environment["REELHAUL_TIMEOUT_S"] = "8"
            # Drama keeps one thread busy; three are free.
            stage.emulator("--movies", "200", "--fault", "latency=6:match=with_genres=18&")
            yield stage
            with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
                client.drop_database(stage.database.name)

    def restart_redis_while_partly_busy(
        self, fleet: Stage, worker: ChildProcess, server: EmbeddedRedis, year: int
    ) -> None:
        [tmdb] = fleet.emulators
        before = tmdb.stats()["arrivals"]
        fleet.send(cells=[(18, f"{year}", 1)])
        wait_for(lambda: bool(tmdb.stats()["arrivals"] > before), watching=[worker])
        server.kill()
        time.sleep(0.5)  # as a restart takes; its length decides nothing
        server.start()

    def test_worker_survives_and_consumes_again(self, fleet: Stage, own_redis: EmbeddedRedis) -> None:
        worker = fleet.worker()
        for year in (2021, 2022):
            self.restart_redis_while_partly_busy(fleet, worker, own_redis, year)
            fleet.send(cells=[(35, f"{year}", 1)])
            wait_for(lambda year=year: f"35:{year}:1" in fleet.stored_pages(), watching=[worker])  # type: ignore[misc]
        assert UNRECOVERABLE not in worker.log_text()

    @pytest.mark.timeout(150)
    def test_stock_worker_dies(self, fleet: Stage, own_redis: EmbeddedRedis) -> None:
        module = stock(fleet, WITHOUT_TRANSPORT)
        deaths = []
        for _ in range(TRIALS):
            worker = fleet.worker(module=module)
            self.restart_redis_while_partly_busy(fleet, worker, own_redis, 2020)
            deadline = time.monotonic() + PATIENCE_S / TRIALS
            while worker.running and time.monotonic() < deadline:
                time.sleep(0.05)
            if not worker.running:
                deaths.append(worker.log_text())
                break
            worker.kill()
        assert deaths, f"the stock transport survived {TRIALS} times"
        assert UNRECOVERABLE in deaths[0]
        assert "AttributeError" in deaths[0]


@pytest.mark.parametrize(
    ("transport", "is_shared"), [(stock_redis.Transport, False), (kombu_redis.Transport, True)]
)
def test_stock_kombu_builds_a_client_for_each_acknowledgement(
    redis_url: str, transport: type, is_shared: bool
) -> None:
    with Connection(redis_url, transport=transport) as connection:
        channel: Any = connection.default_channel
        with channel.conn_or_acquire() as one, channel.conn_or_acquire() as other:
            assert (one is other) == is_shared


class TestAcknowledgements:
    """How many messages Redis knows as taken."""

    @staticmethod
    def open(redis_url: str, transport: type, *, has_loop: bool) -> Any:
        options = {
            "global_keyprefix": f"{uuid4().hex}:",
            "queue_order_strategy": "worker.queues:QueueOrder",
        }
        connection: Any = Connection(redis_url, transport=transport, transport_options=options)
        connection.transport.has_loop = has_loop
        queue = connection.SimpleQueue("some")
        for number in range(3):
            queue.put(number)
        return connection

    @staticmethod
    def take(connection: Any) -> Any:
        return connection.default_channel.basic_get("some")

    @staticmethod
    def taken(connection: Any) -> int:
        channel: Any = connection.default_channel
        with channel.conn_or_acquire() as client:
            taken = client.hlen(channel.unacked_key)
            assert taken == len(client.zrange(channel.unacked_index_key, 0, -1))
            return int(taken)

    def test_stock_kombu_tells_redis_of_each_at_once(self, redis_url: str) -> None:
        with self.open(redis_url, stock_redis.Transport, has_loop=True) as connection:
            self.take(connection).ack()
            assert self.taken(connection) == 0

    def test_in_a_worker_redis_is_told_with_the_next_message(self, redis_url: str) -> None:
        with self.open(redis_url, kombu_redis.Transport, has_loop=True) as connection:
            channel: Any = connection.default_channel
            first, second = self.take(connection), self.take(connection)
            first.ack()
            assert self.taken(connection) == 2
            third = self.take(connection)
            assert self.taken(connection) == 2
            second.ack()
            third.ack()
            channel.qos.flush()
            assert self.taken(connection) == 0

    def test_a_channel_that_closes_tells_the_rest(self, redis_url: str) -> None:
        with self.open(redis_url, kombu_redis.Transport, has_loop=True) as connection:
            channel: Any = connection.default_channel
            self.take(connection).ack()
            with channel.conn_or_acquire() as client:
                assert client.hlen(channel.unacked_key) == 1
                channel.close()
                assert client.hlen(channel.unacked_key) == 0

    def test_without_an_event_loop_redis_is_told_at_once(self, redis_url: str) -> None:
        with self.open(redis_url, kombu_redis.Transport, has_loop=False) as connection:
            self.take(connection).ack()
            assert self.taken(connection) == 0

    def test_an_idle_worker_tells_it_soon(self, stage: Stage) -> None:
        stage.emulator("--movies", "50")
        worker = stage.worker()
        stage.send(cells=[(18, "2021", 1)])
        wait_for(lambda: "18:2021:1" in stage.stored_pages(), watching=[worker])
        with redis.Redis.from_url(stage.redis_url) as client:
            wait_for(lambda: not client.hlen("{reelhaul}:unacked"), watching=[worker])


class TestTaking:
    """How a worker takes messages."""

    @pytest.mark.parametrize(
        ("transport", "number"), [(stock_redis.Transport, 1), (kombu_redis.Transport, 3)]
    )
    def test_several_at_once_when_several_are_free(
        self, redis_url: str, transport: type, number: int
    ) -> None:
        with TestAcknowledgements.open(redis_url, transport, has_loop=True) as connection:
            channel: Any = connection.default_channel
            received: list[Any] = []
            channel.basic_qos(0, 8)
            channel.basic_consume("some", no_ack=False, callback=received.append, consumer_tag="one")
            connection.drain_events(timeout=5)
            assert [one.decode() for one in received] == list(range(number))
            assert TestAcknowledgements.taken(connection) == number

    def test_no_more_than_are_free(self, redis_url: str) -> None:
        with TestAcknowledgements.open(redis_url, kombu_redis.Transport, has_loop=True) as connection:
            channel: Any = connection.default_channel
            received: list[Any] = []
            channel.basic_qos(0, 2)
            channel.basic_consume("some", no_ack=False, callback=received.append, consumer_tag="one")
            connection.drain_events(timeout=5)
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.2)
            assert len(received) == TestAcknowledgements.taken(connection) == 2

    def test_what_is_taken_and_not_acknowledged_can_be_restored_as_it_was(self, redis_url: str) -> None:
        with TestAcknowledgements.open(redis_url, kombu_redis.Transport, has_loop=True) as connection:
            channel: Any = connection.default_channel
            some = f"{channel.global_keyprefix}some"
            with redis.Redis.from_url(redis_url) as client:
                before = client.lrange(some, 0, -1)
                channel.basic_qos(0, 8)
                channel.basic_consume("some", no_ack=False, callback=lambda _: None, consumer_tag="one")
                connection.drain_events(timeout=5)
                assert client.llen(some) == 0
                channel.qos.restore_unacked_once()
                after = client.lrange(some, 0, -1)
        assert {self.call(raw) for raw in after} == {self.call(raw) for raw in before}
        assert len(after) == 3

    @staticmethod
    def call(raw: bytes) -> tuple[str, str]:
        """A message without what a delivery changes."""
        sent = json.loads(raw)
        return sent["body"], sent["properties"]["delivery_tag"]


class TestEvents:
    """Task events, as Flower receives them."""

    @pytest.mark.parametrize(("source", "is_stock"), [(WITHOUT_STEP, True), ("", False)])
    def test_stock_celery_sends_them_at_each_turn_and_ours_all_of_them_twice_a_second(
        self, stage: Stage, source: str, is_stock: bool
    ) -> None:
        stage.emulator("--movies", "50")
        pages = 60
        with redis.Redis.from_url(stage.redis_url) as client, client.pubsub() as channel:
            channel.psubscribe("*celeryev*")
            worker = stage.worker("-E", module=stock(stage, source) if source else "worker.app")
            wait_for(lambda: " ready" in worker.log_text(), watching=[worker])
            stage.send(cells=[(18, str(year), 1) for year in range(2026 - pages, 2026)])
            wait_for(lambda: len(stage.stored_pages()) >= pages, watching=[worker])
            worker.stop(PATIENCE_S)
            batches = list(task_events(channel))
        assert sum(batch.count("task-succeeded") for batch in batches) >= pages
        assert (len(batches) > pages / 2) == is_stock


def task_events(channel: Any) -> Iterator[list[str]]:
    """The types of the task events in each message with some."""
    while message := channel.get_message(timeout=1):
        if message["type"] == "pmessage" and b"task." in message["channel"]:
            body = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
            yield [event["type"] for event in body]


@pytest.mark.parametrize(
    ("source", "junk", "error"),
    [
        (WITHOUT_TRANSPORT, "no JSON", "JSONDecodeError"),
        (WITHOUT_TRANSPORT, "5", "TypeError"),
        (WITHOUT_STRATEGY, message(b"5"), "TypeError"),
    ],
    ids=["not JSON", "not a message", "not a call"],
)
def test_junk_in_a_queue_ends_a_stock_worker(stage: Stage, source: str, junk: str, error: str) -> None:
    """What ours does: test_security.py::test_messages_that_are_not_ours_are_rejected_and_logged."""
    worker = stage.worker(module=stock(stage, source))
    with redis.Redis.from_url(stage.redis_url) as client:
        client.lpush("{reelhaul}:pages", junk)
    assert worker.wait(PATIENCE_S) != 0
    assert UNRECOVERABLE in worker.log_text()
    assert error in worker.log_text()


@pytest.mark.parametrize(("option", "pool"), [((), "thread"), (("--pool", "prefork"), "prefork")])
def test_default_pool_is_threads_and_another_can_be_chosen(
    stage: Stage, option: tuple[str, ...], pool: str
) -> None:
    worker = stage.worker(*option, "-c", "1")
    wait_for(lambda: "ready" in worker.log_text(), watching=[worker])
    assert f"({pool}" in worker.log_text()


def test_stock_flower_shows_its_metrics_to_everybody(stage: Stage) -> None:
    port = free_port()
    options = (f"--port={port}", "--basic_auth=reader:s3cret-enough", "--address=127.0.0.1")
    flower = stage.start(sys.executable, "-m", "celery", "-b", stage.redis_url, "flower", *options)

    def status(path: str) -> int:
        with suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE_S).status_code
        return 0

    wait_for(lambda: status("healthcheck") == 200, watching=[flower])
    assert status("tasks") == 401
    assert status("metrics") == 200
