"""A pytest plugin for a mutant's run: it checks that the edited code is tested and reports each outcome.

`python -m pytest -p tests.mutants.witness`; it writes to the file MUTANT_REPORT; MUTANT_FILE is the edited file,
if any.
"""

import importlib.util
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_seen: list[dict[str, str]] = []


def pytest_sessionstart() -> None:
    """Check that the edited module is this tree's and can be imported; otherwise no failure means anything."""
    edited = os.environ["MUTANT_FILE"]
    file = edited if edited.endswith(".py") else "worker/__init__.py"
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin != str(ROOT / file):
        pytest.exit(f"{name} is imported from elsewhere: {spec}", returncode=3)
    if name != "worker.flowerconfig":  # executed by Flower, never imported
        importlib.import_module(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[Any],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo
    _seen.append(
        {
            "when": str(report.when),
            "outcome": report.outcome,
            "error": error.typename if error else "",
            "message": error.exconly(tryshort=True) if error else "",
        }
    )
    return report


def pytest_sessionfinish() -> None:
    Path(os.environ["MUTANT_REPORT"]).write_text(json.dumps(_seen), encoding="utf-8")
