"""What `make chaos` asks for, and the table that it ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.harness import Outcome, Rig

OUTCOMES = pytest.StashKey[list[Outcome]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--full", dest="chaos", action="store_const", const="full", help="every kill test")
    group.addoption("--quick", dest="chaos", action="store_const", const="quick", help="the quick kill tests")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: of the kill tests, those that every test run includes")
    config.stash[OUTCOMES] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --full, only the quick kill tests."""
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
    if not outcomes:
        return
    width = max(len(outcome.fault) for outcome in outcomes)
    terminalreporter.section("chaos")
    terminalreporter.write_line(
        f"{'fault':{width}}  pages   lost  doubled  extra requests  seconds to recover"
    )
    for outcome in outcomes:
        recovery = "-" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}"
        terminalreporter.write_line(
            f"{outcome.fault:{width}}  {outcome.pages:5}  {outcome.lost:5}  {outcome.doubled:7}  "
            f"{outcome.extra:14}  {recovery:>18}"
        )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Starts a run's servers with the options of `Rig`; all end after the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Rig(tmp_path, **options))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str, Rig], None]:
    """Adds the run's row to the table."""
    return lambda fault, rig: request.config.stash[OUTCOMES].append(rig.outcome(fault))
