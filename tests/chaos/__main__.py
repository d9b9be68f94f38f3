"""Run all kill tests, several files at a time since they mostly wait, and print one table.

`python -m tests.chaos [--quick] [PYTEST ARGUMENT...]`; without pytest arguments the quick mutants follow.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.outcome import Outcome, table

HERE = Path(__file__).parent
#: Groups of files that run side by side and take about equally long; more would only wait for the processor.
GROUPS = (
    ("test_kills.py", "test_clocks.py", "test_hostile.py"),
    ("test_redis.py", "test_stops.py"),
    ("test_api.py",),
    ("test_mongo.py", "test_deliveries.py"),
)
#: pytest's exit codes: all passed, or the arguments selected no test of this group.
GOOD = (0, 5)


def main(arguments: list[str]) -> int:
    """Exit code 0 when all passed."""
    begun = time.monotonic()
    missing = {path.name for path in HERE.glob("test_*.py")} - {name for group in GROUPS for name in group}
    if missing:
        raise SystemExit(f"not in any group: {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory(prefix="reelhaul-chaos-") as folder:
        rows = [Path(folder) / f"rows{number}.json" for number in range(len(GROUPS))]
        logs = [Path(folder) / f"group{number}.log" for number in range(len(GROUPS))]
        started = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "pytest", "--full", "-p", "no:cacheprovider"),
                    *(f"--rows={file}", f"--basetemp={folder}/group{number}"),
                    *(str(HERE / name) for name in group),
                    *arguments,
                ],
                stdout=log.open("wb"),
                stderr=subprocess.STDOUT,
            )
            for number, (group, file, log) in enumerate(zip(GROUPS, rows, logs, strict=True))
        ]
        codes = [process.wait() for process in started]
        for code, log in zip(codes, logs, strict=True):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            sys.stdout.write("\n".join(lines[-1:] if code in GOOD else lines) + "\n")
        outcomes = [
            Outcome(**row)
            for file in rows
            if file.exists()
            for row in json.loads(file.read_text(encoding="utf-8"))
        ]
    if outcomes:
        sys.stdout.write("\n".join(("", *table(outcomes), "")))
    good = all(code in GOOD for code in codes) and bool(outcomes)
    if set(arguments) <= {"--quick"}:
        sys.stdout.flush()
        good = subprocess.call([sys.executable, "-m", "tests.mutants", "--quick"]) == 0 and good
    sys.stdout.write(f"{'every promise kept' if good else 'FAILED'}, {time.monotonic() - begun:.0f} s\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
