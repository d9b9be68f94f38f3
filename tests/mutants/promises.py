"""The promises in the documentation, row by row, and the tests that it names."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
GUARANTEES = ROOT / "docs" / "guarantees.md"
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_BETWEEN_TICKS = re.compile(r"`([^`]+)`")
_TEST = re.compile(r"(?:[\w/]*/)?(?:test_\w+\.py)?(?:::)?(?:\w+::)*(?:test_\w+)?")


class Row(NamedTuple):
    """A row of a table in docs/guarantees.md."""

    #: Its first cell: the promise, or the fault.
    name: str
    text: str
    #: As written: a file, a test, or both.
    tests: tuple[str, ...]


def rows() -> list[Row]:
    """Every row of docs/guarantees.md."""
    found: list[Row] = []
    for line in GUARANTEES.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and "shown by" not in line and not set(line) <= set("|-: "):
            found.append(Row(cells[0], plain(line), tuple(named_tests(cells[-1]))))
    return found


def plain(text: str) -> str:
    """The text on one line, without the markup of lists and quotations."""
    return " ".join(re.sub(r"(?m)^(?:> |- )", "", text).split())


@cache
def documentation() -> str:
    """All documents as plain text."""
    return " ".join(plain(path.read_text(encoding="utf-8")) for path in DOCUMENTS)


def named_tests(text: str) -> list[str]:
    """The names of tests and test files between backticks."""
    return [name for name in _BETWEEN_TICKS.findall(text) if "test_" in name and _TEST.fullmatch(name)]


@cache
def tests() -> dict[str, frozenset[str]]:
    """The names of all test functions, by the path of their file."""
    return {
        str(path.relative_to(ROOT)): frozenset(
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        )
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
    }


def files_of(named: str) -> list[str]:
    """The test files that contain what is named; empty when there is no such test."""
    file, _, test = named.rpartition("::") if not named.endswith(".py") else (named, "", "")
    file = file.partition("::")[0]
    return [
        path
        for path, functions in tests().items()
        if (not file or path == file or path.endswith(f"/{file}")) and (not test or test in functions)
    ]


def names(named: str, node_id: str) -> bool:
    """Whether a row names the test with that node id, or its file."""
    path, _, inside = node_id.partition("[")[0].partition("::")
    return path in files_of(named) and (
        named.endswith(".py") or named.rpartition("::")[2] == inside.rpartition("::")[2]
    )
