"""The list of mutants agrees with the code, the tests and the documentation; no mutant is run here."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.listed import MUTANTS, WITHOUT, invalid
from tests.mutants.mutant import Mutant
from tests.mutants.promises import (
    DOCUMENTS,
    ROOT,
    Row,
    documentation,
    files_of,
    named_tests,
    names,
    plain,
    rows,
)
from tests.mutants.workspace import PACKAGES, judge


def test_there_are_enough_with_unique_names() -> None:
    assert len(MUTANTS) >= 40
    assert [name for name, times in Counter(mutant.name for mutant in MUTANTS).items() if times > 1] == []
    assert sum(mutant.quick for mutant in MUTANTS) == 8


def test_each_edit_is_valid() -> None:
    errors = list(invalid(MUTANTS, ROOT))
    assert not errors, "\n".join(errors)


def test_edits_are_in_packages_that_the_workspace_compiles() -> None:
    edited = {mutant.file for mutant in MUTANTS if mutant.file.endswith(".py")}
    assert {file.partition("/")[0] for file in edited} <= set(PACKAGES)


def test_each_test_of_a_mutant_exists() -> None:
    ids = sorted({mutant.test for mutant in MUTANTS})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", "--full"]
    collected = subprocess.run(
        [*command, *ids, "tests/chaos"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    errors = [line for line in collected.stderr.splitlines() if line.startswith("ERROR")]
    assert collected.returncode == 0, "\n".join(errors) or collected.stdout[-2000:]


def test_each_promise_is_in_the_documentation() -> None:
    missing = [f"{m.name}: {m.promise}" for m in MUTANTS if plain(m.promise) not in documentation()]
    assert not missing, "\n".join(missing)


def test_every_test_that_the_documentation_names_exists() -> None:
    assert {
        f"{path.name}: {named}"
        for path in DOCUMENTS
        for named in named_tests(path.read_text(encoding="utf-8"))
        if not files_of(named)
    } == set()


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_guarantee_names_a_test_that_a_mutant_fails(row: Row) -> None:
    mutants = [mutant for mutant in MUTANTS if plain(mutant.promise) in row.text]
    if row.name in WITHOUT:
        assert mutants == [], "it has a mutant: remove it from WITHOUT"
        return
    assert mutants, "no mutant quotes a promise of this row, and WITHOUT gives no reason"
    assert [m.test for m in mutants if any(names(named, m.test) for named in row.tests)], (
        "the row names none of its mutants' tests: " + ", ".join(mutant.test for mutant in mutants)
    )


def test_every_row_without_a_mutant_exists() -> None:
    assert WITHOUT.keys() <= {row.name for row in rows()}


FAILED = {"when": "call", "outcome": "failed", "error": "AssertionError", "message": "assert 1 == 2"}
PASSED = {"when": "call", "outcome": "passed", "error": "", "message": ""}
SET_UP = {**PASSED, "when": "setup"}


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        ([SET_UP, PASSED, {**PASSED, "when": "teardown"}], "passed"),
        ([SET_UP, FAILED], "failed"),
        ([SET_UP, PASSED, SET_UP, FAILED], "failed"),
        ([], "broken"),
        ([SET_UP], "broken"),
        ([{**FAILED, "when": "setup"}], "broken"),
        ([SET_UP, PASSED, {**FAILED, "when": "teardown"}], "broken"),
        ([SET_UP, {**FAILED, "error": "NameError"}], "broken"),
        (
            [SET_UP, {**FAILED, "message": "Script attempted to access nonexistent global variable 'x'"}],
            "broken",
        ),
        ([{**SET_UP, "outcome": "skipped"}], "skipped"),
    ],
)
def test_only_a_failed_call_kills(seen: list[dict[str, str]], outcome: str) -> None:
    assert judge(seen, "")[0] == outcome


@pytest.mark.parametrize("text", ["nothing of it", "twice twice"])
def test_old_text_that_does_not_occur_once_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.py").write_text(text)
    mutant = Mutant("name", "promise", "x.py", "twice", "once", "tests/unit/test_x.py::test_y")
    with pytest.raises(ValueError, match=r"mutant name: .* in x\.py, not once"):
        mutant.applied_to(tmp_path)
