"""Stock Celery, billiard and Flower still have the faults that worker/patches fixes.

When a test of stock code fails, upstream has fixed it: delete the patch and the test.
"""

import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import billiard.pool
import click
import pytest
from celery.bin.worker import WORKERS_POOL
from celery.worker.consumer import Consumer
from flower.utils.broker import Broker

from worker.patches import billiard_pool, kombu_json
from worker.patches.celery_acks import SHARE, GatherAcks
from worker.patches.celery_requests import RequestSet
from worker.queues import MOVIE_SHARE, QueueOrder


def run(script: str, folder: Path) -> str:
    """What the script prints, run in the folder."""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()


def test_stock_celery_ignores_the_option_prefork_when_another_pool_is_configured() -> None:
    app = SimpleNamespace(conf=SimpleNamespace(worker_pool="threads"))
    context = click.Context(click.Command("worker"), obj=SimpleNamespace(app=app))
    chosen: Any = WORKERS_POOL.convert("prefork", None, context)
    assert chosen.__module__ == "celery.concurrency.thread"


class Request:
    """As Celery's, in that it can be referred to weakly."""


@pytest.mark.parametrize("kind", [WeakSet, RequestSet])
def test_stock_celery_cannot_iterate_over_requests_that_a_thread_changes(
    kind: type[WeakSet[Request]],
) -> None:
    held = [Request() for _ in range(3)]
    requests = kind(held)
    found = iter(requests)
    next(found)
    requests.discard(held.pop())
    with nullcontext() if kind is RequestSet else pytest.raises(RuntimeError):
        assert len(list(found)) in (1, 2)


def test_celerys_requests_are_kept_in_sets_that_threads_may_change(tmp_path: Path) -> None:
    script = "import worker.app, celery.worker.state as s; print(type(s.{}).__name__)"
    for name in ("reserved_requests", "active_requests"):
        assert run(script.format(name), tmp_path) == "RequestSet"
        assert run(script.format(name).replace("worker.app", "celery"), tmp_path) == "WeakSet"


def test_stock_billiard_waits_30_s_for_results_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    stock: Any = billiard.pool.Worker
    process = SimpleNamespace(on_ready_counter=SimpleNamespace(value=0))

    def wait_s() -> float:
        slept.clear()
        stock._ensure_messages_consumed(process, completed=1)
        return sum(slept)

    assert wait_s() == pytest.approx(30)
    limit = "GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT"
    monkeypatch.setattr(billiard.pool, limit, getattr(billiard.pool, limit))  # restored after the test
    billiard_pool.install()
    assert wait_s() == pytest.approx(billiard_pool.READ_S)


@pytest.mark.parametrize(
    ("imports", "executed"), [("", "the working folder's"), ("import flower.command, worker.app", "")]
)
def test_stock_flower_executes_a_file_of_the_working_folder(
    tmp_path: Path, imports: str, executed: str
) -> None:
    (tmp_path / "flowerconfig.py").write_text('print("the working folder\'s")')
    script = (
        f"{imports}\nfrom flower.command import apply_options\n"
        "from tornado.options import options\n"
        "options.db = 'elsewhere'\n"
        "apply_options('flower', ['--persistent=false'])\n"
    )
    assert run(script, tmp_path) == executed


def test_stock_flower_ignores_the_tls_options_of_an_address() -> None:
    address = "rediss://127.0.0.1:6379/0?ssl_ca_certs=/ca.pem"
    broker = Broker(address, broker_use_ssl=None)
    assert broker.redis.connection_pool.connection_kwargs.get("ssl_ca_certs") is None


class Hub:
    """Celery's event loop, as far as acknowledgements go."""

    def __init__(self) -> None:
        self.soon: list[Any] = []
        self.on_close: set[Any] = set()
        self.timers: list[Any] = []

    def call_soon(self, call: Any) -> None:
        self.soon.append(call)

    def call_repeatedly(self, _: float, call: Any) -> None:
        self.timers.append(call)


def consumer(threads: int) -> Any:
    return SimpleNamespace(
        hub=Hub(), initial_prefetch_count=threads, pool=SimpleNamespace(limit=threads), steps=[]
    )


class TestAcknowledgements:
    """When the event loop carries them out."""

    def test_stock_celery_wakes_its_loop_for_each(self) -> None:
        one, stock = consumer(16), vars(Consumer)
        for number in range(5):
            stock["call_soon_ack"](one, list, [number])
        assert len(one.hub.soon) == 5

    def test_ours_are_carried_out_together(self) -> None:
        one = consumer(4 * SHARE)
        done: list[int] = []
        GatherAcks(one).start(one)
        for number in range(3):
            one.call_soon_ack(done.append, number)
        assert (one.hub.soon, done) == ([], [])
        one.call_soon_ack(done.append, 3)
        [wake] = one.hub.soon
        wake()
        assert done == [0, 1, 2, 3]

    def test_none_waits_for_ever(self) -> None:
        one = consumer(4 * SHARE)
        done: list[int] = []
        step = GatherAcks(one)
        step.start(one)
        step.register_with_event_loop(one, one.hub)
        one.call_soon_ack(done.append, 0)
        [timer] = one.hub.timers
        timer()
        one.call_soon_ack(done.append, 1)
        [close] = one.hub.on_close
        close(one.hub)
        assert done == [0, 1]

    def test_a_solo_pool_holds_one_message(self) -> None:
        one = consumer(16)
        one.pool.limit = 1
        GatherAcks(one).start(one)
        assert one.initial_prefetch_count == 1
        one.call_soon_ack(list)
        assert len(one.hub.soon) == 1


class TestQueueOrder:
    """How many messages follow the first from the same queue."""

    def test_while_movies_wait_every_fourth_message_is_one(self) -> None:
        order = QueueOrder()
        order.update(["refresh", "pages", "cells", "movies"])
        taken: list[str] = []
        while len(taken) < 40:
            queue = next(queue for queue in order.consume(4) if queue in {"pages", "movies"})
            taken += [queue] * (1 + order.rotate(queue, 15))
        assert [n for n, queue in enumerate(taken) if queue == "movies"] == list(range(3, 40, MOVIE_SHARE))

    @pytest.mark.parametrize("queue", ["refresh", "pages", "cells", "movies"])
    def test_a_queue_that_is_alone_fills_all_that_is_free(self, queue: str) -> None:
        order = QueueOrder()
        order.update(["refresh", "pages", "cells", "movies"])
        taken = [order.rotate(queue, 15) for _ in range(4)]
        assert taken[-1] == 15
        assert min(taken) >= 0


class TestJson:
    """What messages hold, whoever encodes it."""

    @pytest.mark.parametrize("value", [[[18, "1999", 1, 0], {}, {"chain": None}], "\ud800", 2**64 - 1])
    def test_what_json_has_comes_back(self, value: Any) -> None:
        assert kombu_json.loads(kombu_json.dumps(value)) == value

    def test_kombus_own_types_come_back(self) -> None:
        value = {"at": datetime(2026, 5, 1, tzinfo=UTC), "raw": b"bytes"}
        assert kombu_json.loads(kombu_json.dumps(value)) == value
        assert kombu_json.loads(kombu_json.dumps(value).encode()) == value
