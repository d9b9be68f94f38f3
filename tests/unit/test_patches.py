"""Stock Celery, billiard and Flower still have the faults that worker/patches fixes.

When a test of stock code fails, upstream has fixed it: delete the patch and the test.
"""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import billiard.pool
import click
import pytest
from celery.bin.worker import WORKERS_POOL
from flower.utils.broker import Broker

from worker.patches import billiard_pool
from worker.patches.celery_requests import RequestSet


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
