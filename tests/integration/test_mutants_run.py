"""The mutation run: which mutants count as killed, and which code the tests run."""

from pathlib import Path

import pytest
import redis

from tests.mutants.__main__ import judged
from tests.mutants.listed import MUTANTS, invalid
from tests.mutants.mutant import Mutant
from tests.mutants.promises import ROOT
from tests.mutants.workspace import Workspace, files_under

FILE = "worker/limiter/rate.py"
TEST = "tests/unit/test_rate.py::test_a_rate_is_shown_per_second_or_as_a_fraction"


def mutant(name: str, old: str, new: str, test: str = TEST) -> Mutant:
    return Mutant(name, "a promise", FILE, old, new, test)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(ROOT, files_under(ROOT), tmp_path_factory.mktemp("mutants"))


def test_each_edit_of_lua_compiles(redis_url: str) -> None:
    edits = [mutant for mutant in MUTANTS if mutant.file.endswith(".lua")]
    with redis.Redis.from_url(redis_url) as client:
        errors = list(invalid(edits, ROOT, client))
    assert not errors, "\n".join(errors)


def test_a_mutant_is_killed_only_by_a_failing_test(workspace: Workspace) -> None:
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
    assert "AssertionError" in rows[0].detail
    assert (ROOT / FILE).read_text() == original


@pytest.mark.parametrize("test", [TEST.replace("fraction", "nothing"), f"{TEST}[of nothing]"])
def test_a_missing_test_kills_nothing(workspace: Workspace, test: str) -> None:
    [row] = judged(workspace, [mutant("any", "return self.requests / self.period_s", "return 0.0", test)])
    assert row.outcome == "broken"
    assert row.detail.startswith("fails without the mutant")


def test_every_process_of_a_test_runs_the_copy(workspace: Workspace, tmp_path: Path) -> None:
    """Even a child without this process's environment, in another folder."""
    code = (
        "import subprocess, sys; print(subprocess.check_output([sys.executable, '-I', '-c', CHILD], env={}))"
    )
    child = "import worker.limiter.rate; print(worker.limiter.rate.__file__)"
    output = workspace.python(f"CHILD = {child!r}; {code}", tmp_path)
    assert f"/tree/{FILE}" in output
    assert str(ROOT / FILE) not in output
