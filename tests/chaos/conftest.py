"""Options, fixtures and the table of `make chaos`."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.harness import Rig
from tests.chaos.outcome import Outcome, table

OUTCOMES = pytest.StashKey[list[Outcome]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--full", dest="chaos", action="store_const", const="full", help="every kill test")
    group.addoption("--quick", dest="chaos", action="store_const", const="quick", help="the quick kill tests")
    group.addoption("--rows", type=Path, metavar="FILE", help="write the table's rows to this file, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: a kill test that every test run includes")
    config.stash[OUTCOMES] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --full, leave out all but the quick kill tests."""
    if config.getoption("chaos", None) == "full":
        return
    left_out = [
        item for item in items if item.get_closest_marker("chaos") and not item.get_closest_marker("quick")
    ]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    outcomes = config.stash.get(OUTCOMES, [])
    rows: Path | None = config.getoption("rows", None)
    if rows:
        rows.write_text(json.dumps([asdict(outcome) for outcome in outcomes]), encoding="utf-8")
    elif outcomes:
        terminalreporter.section("chaos")
        for line in table(outcomes):
            terminalreporter.write_line(line)


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether --full was given."""
    return bool(request.config.getoption("chaos", None) == "full")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Starts a run with the options of `Rig`; all of it ends with the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Rig(tmp_path, **options))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str, Rig], None]:
    """Adds a run's row to the table."""
    return lambda fault, rig: request.config.stash[OUTCOMES].append(rig.outcome(fault))
