"""The mutation run itself: what counts as killed, and on which code the tests run."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import judged
from tests.mutants.mutant import Mutant
from tests.mutants.promises import ROOT
from tests.mutants.workspace import Workspace, files_under

FILE = "worker/limiter/rate.py"
TEST = "tests/unit/test_rate.py::test_is_shown_a_second_or_as_the_fraction"


def mutant(name: str, old: str, new: str, test: str = TEST) -> Mutant:
    return Mutant(name, "a promise", FILE, old, new, test)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(ROOT, files_under(ROOT), tmp_path_factory.mktemp("mutants"))


def test_what_a_test_notices_is_killed_and_all_else_is_not(workspace: Workspace) -> None:
    original = (ROOT / FILE).read_text()
    rows = judged(
        workspace,
        [
            mutant("broken promise", "return self.requests / self.period_s", "return self.requests + 0.5"),
            mutant(
                "none at all", "return self.requests / self.period_s", "return self.requests/self.period_s"
            ),
            mutant("ends at its import", "_FINEST = 1_000_000", "_FINEST = 1 // 0"),
        ],
    )
    assert [row.outcome for row in rows] == ["killed", "survived", "broken"]
    assert "AssertionError" in rows[0].said
    assert (ROOT / FILE).read_text() == original


@pytest.mark.parametrize("test", [TEST.replace("fraction", "nothing"), f"{TEST}[of nothing]"])
def test_a_test_that_is_not_there_kills_nothing(workspace: Workspace, test: str) -> None:
    [row] = judged(workspace, [mutant("any", "return self.requests / self.period_s", "return 0.0", test)])
    assert row.outcome == "broken"
    assert row.said.startswith("fails without the mutant")


def test_whatever_a_test_starts_runs_the_copy(workspace: Workspace, tmp_path: Path) -> None:
    """Even a child without this process' environment, in a folder of its own."""
    asked = (
        "import subprocess, sys; print(subprocess.check_output([sys.executable, '-I', '-c', CHILD], env={}))"
    )
    child = "import worker.limiter.rate; print(worker.limiter.rate.__file__)"
    told = workspace.python(f"CHILD = {child!r}; {asked}", tmp_path)
    assert f"/tree/{FILE}" in told
    assert str(ROOT / FILE) not in told
