"""Break each promise on purpose and run the test that must fail: `python -m tests.mutants`.

Exit code 0 when every mutant was killed, 1 when one survived, 2 when one was broken.
"""

import argparse
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from sandbox.servers import EmbeddedRedis
from tests.mutants.listed import MUTANTS, invalid
from tests.mutants.mutant import Mutant
from tests.mutants.workspace import Verdict, Workspace, files_under

ROOT = Path(__file__).resolve().parents[2]
#: Workspaces at a time; the tests mostly wait, and three of them use less than one core.
WORKSPACES = 3
CODES = {"killed": 0, "skipped": 0, "survived": 1, "broken": 2}


class Row(NamedTuple):
    """The result of one mutant."""

    mutant: Mutant
    outcome: str
    detail: str
    seconds: float


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    chosen = [m for m in MUTANTS if (m.quick or not options.quick) and options.k in m.name]
    if not chosen:
        sys.stderr.write(f"no mutant's name contains {options.k!r}: `make mutants ARGS=--list` lists them\n")
        return 2
    if options.list:
        for mutant in chosen:
            sys.stdout.write(
                f"{mutant.name}{' (quick)' * mutant.quick}: {mutant.promise}\n    {mutant.test}\n"
            )
        return 0
    with EmbeddedRedis(appendonly=False) as server, Redis.from_url(server.url) as client:
        errors = list(invalid(chosen, ROOT, client))
    if errors:
        sys.stderr.write("\n".join(errors) + "\n")
        return 2
    try:
        files = files_under(ROOT)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    started = time.monotonic()
    rows = run(chosen, files)
    sys.stdout.write("\n".join(("", *table(rows), "")))
    count = {outcome: sum(row.outcome == outcome for row in rows) for outcome in CODES}
    counts = ", ".join(f"{number} {outcome}" for outcome, number in count.items() if number)
    sys.stdout.write(f"{counts}; {time.monotonic() - started:.0f} s\n")
    return max(CODES[row.outcome] for row in rows)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the few that `make chaos` runs")
    parser.add_argument("--list", action="store_true", help="list names, promises and tests, and run nothing")
    parser.add_argument("-k", default="", metavar="NAME", help="only those whose name contains this")
    return parser.parse_args(arguments)


def run(mutants: Sequence[Mutant], files: Sequence[str]) -> list[Row]:
    """Judge all mutants, WORKSPACES at a time; rows in the order in which they end."""
    groups: queue.SimpleQueue[list[Mutant]] = queue.SimpleQueue()
    # All mutants of a test run in one workspace, after the test has passed there; slow kill tests first.
    for test in sorted(
        {m.test for m in mutants}, key=lambda test: (not test.startswith("tests/chaos/"), test)
    ):
        groups.put([mutant for mutant in mutants if mutant.test == test])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="reelhaul-mutants-") as folder:
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                workspace = Workspace(ROOT, files, Path(folder) / f"workspace{number}")
                while True:
                    try:
                        group = groups.get_nowait()
                    except queue.Empty:
                        return
                    for row in judged(workspace, group):
                        rows.append(row)
                        sys.stdout.write(_line(row) + "\n")
                        sys.stdout.flush()
            except BaseException as error:  # noqa: BLE001 -- raised again in the main thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKSPACES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
    return rows


def judged(workspace: Workspace, group: Sequence[Mutant]) -> list[Row]:
    """Judge the mutants of one test, which must pass without them."""
    unchanged = workspace.run(group[0].test)
    if unchanged.outcome == "skipped":
        return [Row(mutant, "skipped", unchanged.detail, unchanged.seconds) for mutant in group]
    if unchanged.outcome != "passed":
        detail = f"fails without the mutant: {unchanged.detail}"
        return [Row(mutant, "broken", detail, unchanged.seconds) for mutant in group]
    return [_row(mutant, workspace.run(mutant.test, mutant)) for mutant in group]


def _row(mutant: Mutant, verdict: Verdict) -> Row:
    outcome = {"passed": "survived", "failed": "killed"}.get(verdict.outcome, "broken")
    return Row(mutant, outcome, verdict.detail, verdict.seconds)


def _line(row: Row) -> str:
    return f"{row.outcome:8} {row.seconds:5.1f} s  {row.mutant.name}: {row.detail[:150] or 'the test passes'}"


def table(rows: Sequence[Row]) -> list[str]:
    """Outcome, seconds, mutant, test and promise as lines, the worst first."""
    ordered = sorted(rows, key=lambda row: (-CODES[row.outcome], row.mutant.file, row.mutant.name))
    names = max(len(row.mutant.name) for row in ordered)
    tests = max(len(_short(row.mutant.test)) for row in ordered)
    return [
        f"{'':8}  seconds  {'mutant':{names}}  {'test':{tests}}  promise",
        *(
            f"{row.outcome:8}  {row.seconds:7.1f}  {row.mutant.name:{names}}  "
            f"{_short(row.mutant.test):{tests}}  {row.mutant.promise}"
            for row in ordered
        ),
    ]


def _short(test: str) -> str:
    """The node id without folders; its parameters may contain a slash too."""
    file, _, name = test.partition("::")
    return f"{file.rpartition('/')[2]}::{name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
