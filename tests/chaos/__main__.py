"""Runs the kill tests side by side, for they mostly wait, and ends with one table: `python -m tests.chaos`.

Arguments are pytest's, and --quick. Without pytest's, the quick mutants follow (tests.mutants).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.harness import Outcome, table

HERE = Path(__file__).parent
#: Files of about the same length, run at the same time: more would only wait for the processor.
LINES = (
    ("test_kills.py", "test_clocks.py", "test_hostile.py"),
    ("test_redis.py", "test_stops.py"),
    ("test_api.py",),
    ("test_mongo.py", "test_deliveries.py"),
)
#: pytest's codes: all passed, or a choice left none for this line.
GOOD = (0, 5)


def main(arguments: list[str]) -> int:
    """Exit code 0 when all passed."""
    begun = time.monotonic()
    missing = {path.name for path in HERE.glob("test_*.py")} - {name for line in LINES for name in line}
    if missing:
        raise SystemExit(f"not in any line: {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory(prefix="reelhaul-chaos-") as folder:
        rows = [Path(folder) / f"rows{number}.json" for number in range(len(LINES))]
        logs = [Path(folder) / f"line{number}.log" for number in range(len(LINES))]
        started = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "pytest", "--full", "-p", "no:cacheprovider"),
                    *(f"--rows={file}", f"--basetemp={folder}/line{number}"),
                    *(str(HERE / name) for name in line),
                    *arguments,
                ],
                stdout=log.open("wb"),
                stderr=subprocess.STDOUT,
            )
            for number, (line, file, log) in enumerate(zip(LINES, rows, logs, strict=True))
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
    sys.stdout.write(f"{'all kept' if good else 'FAILED'}, {time.monotonic() - begun:.0f} s\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
