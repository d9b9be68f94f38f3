"""The list of mutants, and the documentation that it breaks, belong together: no mutant is run here."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.mutants.listed import MUTANTS, WITHOUT, faults
from tests.mutants.mutant import Mutant
from tests.mutants.promises import (
    DOCUMENTS,
    ROOT,
    Row,
    documentation,
    files_of,
    named_tests,
    names,
    rows,
    words,
)
from tests.mutants.workspace import PACKAGES, judge


def test_there_are_enough_and_each_has_a_name() -> None:
    assert len(MUTANTS) >= 40
    assert [name for name, times in Counter(mutant.name for mutant in MUTANTS).items() if times > 1] == []
    assert sum(mutant.quick for mutant in MUTANTS) == 8


def test_each_edit_is_of_text_that_is_there_once_and_leaves_code_behind(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert list(faults(MUTANTS, ROOT, client)) == []


def test_what_is_edited_is_compiled_so_that_each_edit_is_seen() -> None:
    edited = {mutant.file for mutant in MUTANTS if mutant.file.endswith(".py")}
    assert {file.partition("/")[0] for file in edited} <= set(PACKAGES)


def test_each_test_of_a_mutant_exists() -> None:
    ids = sorted({mutant.test for mutant in MUTANTS})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", "--full"]
    asked = subprocess.run(
        [*command, *ids, "tests/chaos"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, [line for line in asked.stderr.splitlines() if line.startswith("ERROR")]


def test_each_promise_stands_in_the_documentation() -> None:
    assert [mutant.name for mutant in MUTANTS if words(mutant.promise) not in documentation()] == []


def test_every_test_that_the_documentation_names_exists() -> None:
    assert {
        f"{path.name}: {named}"
        for path in DOCUMENTS
        for named in named_tests(path.read_text(encoding="utf-8"))
        if not files_of(named)
    } == set()


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_row_of_the_guarantees_names_a_test_that_its_mutant_fails(row: Row) -> None:
    mutants = [mutant for mutant in MUTANTS if words(mutant.promise) in row.text]
    if row.name in WITHOUT:
        assert mutants == [], "it has a mutant: take it off the list of those without"
        return
    assert mutants, "no mutant breaks this promise, and no reason is given"
    assert [m.test for m in mutants if any(names(named, m.test) for named in row.tests)], (
        "none of these tests is named: " + ", ".join(mutant.test for mutant in mutants)
    )


def test_no_reason_is_given_for_a_row_that_is_not_there() -> None:
    assert WITHOUT.keys() <= {row.name for row in rows()}


FAILED = {"when": "call", "outcome": "failed", "error": "AssertionError", "said": "assert 1 == 2"}
PASSED = {"when": "call", "outcome": "passed", "error": "", "said": ""}
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
            [SET_UP, {**FAILED, "said": "Script attempted to access nonexistent global variable 'x'"}],
            "broken",
        ),
        ([{**SET_UP, "outcome": "skipped"}], "skipped"),
    ],
)
def test_only_a_call_that_fails_is_a_kill(seen: list[dict[str, str]], outcome: str) -> None:
    assert judge(seen, "")[0] == outcome


@pytest.mark.parametrize("text", ["nothing of it", "twice twice"])
def test_text_that_is_not_there_once_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.py").write_text(text)
    mutant = Mutant("name", "promise", "x.py", "twice", "once", "tests/unit/test_x.py::test_y")
    with pytest.raises(ValueError, match=r"mutant name: .* in x\.py, not once"):
        mutant.applied_to(tmp_path)
