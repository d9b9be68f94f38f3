"""All mutants, and what is wrong with them as they are listed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import ResponseError

from tests.mutants import api, delivery, limiter, machine, operations, proof, security, store
from tests.mutants.mutant import Mutant

#: One module an area; a new promise gets its mutant there.
MUTANTS: tuple[Mutant, ...] = (
    *limiter.MUTANTS,
    *api.MUTANTS,
    *store.MUTANTS,
    *delivery.MUTANTS,
    *security.MUTANTS,
    *proof.MUTANTS,
    *machine.MUTANTS,
    *operations.MUTANTS,
)
#: Rows of docs/guarantees.md, by their first cell, that no edit can break alone; each with its reason.
WITHOUT: dict[str, str] = {}


def faults(mutants: Iterable[Mutant], root: Path, client: Redis) -> Iterator[str]:
    """What would make a test fail though no promise is broken: text that is not there, code that is none.

    `client`: any Redis, which is asked whether it can compile the Lua of a mutant.
    """
    for mutant in mutants:
        try:
            text = mutant.applied_to(root)
        except ValueError as error:
            yield str(error)
            continue
        if mutant.file.endswith(".py"):
            # Syntax errors and names that are not defined.
            command = ("ruff", "check", "--isolated", "--quiet", "--select", "F821,F822,F823", "-")
            judged = subprocess.run(
                [sys.executable, "-m", *command], input=text, capture_output=True, text=True, check=False
            )
            if judged.returncode:
                yield f"mutant {mutant.name}: {(judged.stdout + judged.stderr).strip()}"
        elif mutant.file.endswith(".lua"):
            try:
                client.script_load(text)
            except ResponseError as error:
                yield f"mutant {mutant.name}: {error}"
