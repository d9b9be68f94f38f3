"""Flower with our configuration, in a real browser: access, labels of tasks, what survives a restart."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from sandbox.embedded import free_port
from sandbox.processes import ChildProcess
from tests.support.browser import browser_page
from tests.support.sockets import listening
from tests.support.stage import PATIENCE_S, Stage, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

LOGIN = ("haul", "s3cret-enough")
#: The emulator rejects page 2 of Drama every time.
REJECTED = "status=404:match=with_genres=18&.*page=2$"
PICTURES = Path("test-pictures")


@contextmanager
def flower(stage: Stage, *options: str) -> Iterator[tuple[str, ChildProcess]]:
    """Start `celery -A worker.app flower`; yield its address and process."""
    port = free_port()
    command = ("-m", "celery", "-A", "worker.app", "flower", f"--port={port}", *options)
    process = stage.start(sys.executable, *command)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(requests.ConnectionError):
            return requests.get(f"{address}/healthcheck", timeout=PATIENCE_S).ok
        return False

    try:
        wait_for(answers, watching=[process])
        yield address, process
    finally:
        process.stop()


def error_of(stage: Stage, *options: str) -> str:
    """The error of a Flower that does not start."""
    command = ("-m", "celery", "-A", "worker.app", "flower", f"--port={free_port()}", *options)
    process = stage.start(sys.executable, *command)
    assert process.wait(PATIENCE_S) == 2
    return process.log_text().strip()


def show(page: Page, path: str, text: str) -> None:
    """Reload the page until it shows the text: Flower gets events with a delay."""
    wait_for(lambda: bool(page.goto(path)) and bool(text in page.inner_text("body")))


def search(page: Page, words: str) -> None:
    """Search for the words and wait until one task is left."""
    box = page.locator("input[type=search]")
    box.fill(words)
    expect(page.locator("#tasks-table tbody tr")).to_have_count(1)


def test_tasks_and_queues_in_a_browser(stage: Stage, request: pytest.FixtureRequest) -> None:
    stage.emulator("--movies", "20000", "--fault", REJECTED)
    worker = stage.worker()
    stage.environment["FLOWER_BASIC_AUTH"] = ":".join(LOGIN)
    pictures = request.config.rootpath / PICTURES / request.node.name
    with flower(stage) as (address, process), browser_page(pictures, LOGIN) as page:
        show(page, f"{address}/workers", "worker1@")
        ended = stage.reelhaul("backfill", "--genres", "Drama", "--years", "2017")
        assert ended.returncode == 1, ended.stderr  # one page is in quarantine
        pages = stage.progress()["pages_planned"]

        page.goto(f"{address}/tasks")
        search(page, '"18:2017:3"')
        expect(page.locator("#tasks-table")).to_contain_text(f"Drama 2017, page 3 of {pages} (18:2017:3)")
        expect(page.locator("#tasks-table .badge")).to_have_text("SUCCESS")
        runtime = page.locator("#tasks-table tbody td").nth(3).inner_text()
        assert re.match(r"\d", runtime), runtime

        search(page, '"18:2017:2"')
        expect(page.locator("#tasks-table .badge")).to_have_text("FAILURE")
        page.locator("#tasks-table tbody a[href*='/task/']").first.click()
        expect(page.locator("#task-page")).to_contain_text(f"Drama 2017, page 2 of {pages} (18:2017:2)")
        expect(page.locator("#task-page")).to_contain_text("Rejected('HTTP 404")

        page.goto(f"{address}/workers")
        expect(page.locator("body")).to_contain_text("worker1@")
        worker.stop()
        stage.send(cells=[(35, "2001", 1), (35, "2002", 1)], refresh=[(35, "2003", 1)])
        page.goto(f"{address}/broker")
        for queue, waiting in (("refresh_cells", "1"), ("refresh", "0"), ("pages", "0"), ("cells", "2")):
            expect(page.locator(f"#queue-table tr[id={queue}] td").nth(1)).to_have_text(waiting)
        assert process.running
    assert "a-token-of-nobody" not in "".join(child.log_text() for child in stage.children)


def test_tasks_survive_a_restart(stage: Stage) -> None:
    stage.emulator("--movies", "500")
    stage.environment["FLOWER_BASIC_AUTH"] = ":".join(LOGIN)
    stage.worker()

    def tasks(address: str) -> dict[str, str]:
        response = requests.get(f"{address}/api/tasks", auth=LOGIN, timeout=PATIENCE_S)
        response.raise_for_status()
        return {task["args"]: task["state"] for task in json.loads(response.content).values()}

    with flower(stage) as (address, _):
        wait_for(
            lambda: "worker1@" in requests.get(f"{address}/workers", auth=LOGIN, timeout=PATIENCE_S).text
        )
        stage.send(cells=[(35, "2001", 1)])
        name = "genre 35 2001, page 1 (35:2001:1)"  # the names of genres are not loaded yet
        wait_for(lambda: tasks(address).get(name) == "SUCCESS")
    with flower(stage) as (address, _):
        assert tasks(address)[name] == "SUCCESS"


def test_password_is_required_and_control_is_off(stage: Stage) -> None:
    stage.environment["FLOWER_BASIC_AUTH"] = ":".join(LOGIN)
    with flower(stage, "--address=0.0.0.0") as (address, _):
        for path in ("", "workers", "tasks", "broker", "metrics", "api/workers", "api/tasks"):
            assert requests.get(f"{address}/{path}", timeout=PATIENCE_S).status_code == 401, path
            wrong = requests.get(f"{address}/{path}", auth=("haul", "guess"), timeout=PATIENCE_S)
            assert wrong.status_code == 401, path
        assert requests.get(f"{address}/metrics", auth=LOGIN, timeout=PATIENCE_S).ok
        for path in ("api/worker/shutdown/w0", "api/task/revoke/0"):
            response = requests.post(f"{address}/{path}", auth=LOGIN, timeout=PATIENCE_S)
            assert response.status_code == 403, path


def test_without_a_password_the_api_is_closed(stage: Stage) -> None:
    with flower(stage) as (address, _):
        assert requests.get(f"{address}/tasks", timeout=PATIENCE_S).ok
        assert requests.get(f"{address}/api/tasks", timeout=PATIENCE_S).status_code == 401


@pytest.mark.parametrize("how", ["--address=", "FLOWER_ADDRESS"])
def test_empty_address_is_loopback(stage: Stage, how: str) -> None:
    """To Tornado, an empty address means every address."""
    if how == "FLOWER_ADDRESS":
        stage.environment["FLOWER_ADDRESS"] = ""
    with flower(stage, *([how] if how.startswith("--") else [])) as (_, process):
        found = listening([process.pid])
    assert found
    assert {address for address, _ in found if not address.is_loopback} == set()


def test_flower_open_to_everybody_does_not_start(stage: Stage) -> None:
    for address in ("0.0.0.0", "::", "a-host.example"):  # noqa: S104 -- Flower does not start
        assert error_of(stage, f"--address={address}") == (
            f"reelhaul: Flower would show the fleet to anybody who reaches {address}: set "
            "FLOWER_BASIC_AUTH=user:password, or leave --address at 127.0.0.1"
        )
    stage.environment["FLOWER_BASIC_AUTH"] = "haul:"
    assert "must be user:password" in error_of(stage)
    stage.environment |= {"FLOWER_BASIC_AUTH": ":".join(LOGIN), "FLOWER_UNAUTHENTICATED_API": "true"}
    assert "unset it" in error_of(stage)
