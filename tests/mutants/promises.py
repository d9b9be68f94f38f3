"""What the documentation promises, row by row, and the tests that it names."""

from __future__ import annotations

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
    """One row of a table in docs/guarantees.md."""

    #: Its first cell: the promise, or the fault that it is about.
    name: str
    text: str
    #: As they are written: a file, a test, or both.
    tests: tuple[str, ...]


def rows() -> list[Row]:
    """Every row that promises something."""
    found: list[Row] = []
    for line in GUARANTEES.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and "shown by" not in line and not set(line) <= set("|-: "):
            found.append(Row(cells[0], words(line), tuple(named_tests(cells[-1]))))
    return found


def words(text: str) -> str:
    """The text in one line, without the marks of lists and quotations."""
    return " ".join(re.sub(r"(?m)^(?:> |- )", "", text).split())


@cache
def documentation() -> str:
    """All of it, as `words`."""
    return " ".join(words(path.read_text(encoding="utf-8")) for path in DOCUMENTS)


def named_tests(text: str) -> list[str]:
    """What is between backticks and reads as a test, or a file of tests."""
    return [name for name in _BETWEEN_TICKS.findall(text) if "test_" in name and _TEST.fullmatch(name)]


@cache
def tests() -> dict[str, frozenset[str]]:
    """The functions that pytest collects, by their file's path from the root."""
    return {
        str(path.relative_to(ROOT)): frozenset(
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        )
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
    }


def files_of(named: str) -> list[str]:
    """The files of tests in which what is named is found; none: there is no such test."""
    file, _, test = named.rpartition("::") if not named.endswith(".py") else (named, "", "")
    file = file.partition("::")[0]
    return [
        path
        for path, functions in tests().items()
        if (not file or path == file or path.endswith(f"/{file}")) and (not test or test in functions)
    ]


def names(named: str, node_id: str) -> bool:
    """Whether what a row names is the test with that node id, or its file."""
    path, _, inside = node_id.partition("[")[0].partition("::")
    return path in files_of(named) and (
        named.endswith(".py") or named.rpartition("::")[2] == inside.rpartition("::")[2]
    )
