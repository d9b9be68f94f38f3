"""All mutants, and a check of their edits that runs no test."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import ResponseError

from tests.mutants import api, delivery, limiter, machine, operations, proof, requests, security, store
from tests.mutants.mutant import Mutant

#: One module per area; the mutant of a new promise goes there.
MUTANTS: tuple[Mutant, ...] = (
    *limiter.MUTANTS,
    *api.MUTANTS,
    *store.MUTANTS,
    *delivery.MUTANTS,
    *security.MUTANTS,
    *proof.MUTANTS,
    *machine.MUTANTS,
    *operations.MUTANTS,
    *requests.MUTANTS,
)
#: Rows of docs/guarantees.md, by their first cell, that no single edit can break, and why.
WITHOUT: dict[str, str] = {}


def invalid(mutants: Iterable[Mutant], root: Path, client: Redis | None = None) -> Iterator[str]:
    """Errors of the edits: the old text is not there exactly once, or the new code does not compile.

    Lua is compiled by `client`, any Redis, or not at all.
    """
    for mutant in mutants:
        try:
            text = mutant.applied_to(root)
        except ValueError as error:
            yield str(error)
            continue
        if mutant.file.endswith(".py"):
            # Syntax errors and undefined names.
            command = ("ruff", "check", "--isolated", "--quiet", "--select", "F821,F822,F823", "-")
            checked = subprocess.run(
                [sys.executable, "-m", *command], input=text, capture_output=True, text=True, check=False
            )
            if checked.returncode:
                yield f"mutant {mutant.name}: {(checked.stdout + checked.stderr).strip()}"
        elif client and mutant.file.endswith(".lua"):
            try:
                client.script_load(text)
            except ResponseError as error:
                yield f"mutant {mutant.name}: {error}"
