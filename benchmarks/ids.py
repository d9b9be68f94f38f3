"""Time and memory of `reelhaul ids load` and `verify --ids` with 1,200,000 ids in the embedded MongoDB."""

import gzip
import json
import os
import random
import tempfile
import time
from pathlib import Path

from sandbox.fleet import REELHAUL, Fleet
from sandbox.servers import EmbeddedMongo, EmbeddedRedis

LINES, QUICK_LINES = 1_200_000, 100_000
#: Bounds of loading on an idle machine with two cores.
BOUND_S, BOUND_MB = 60.0, 200


def main(arguments: list[str]) -> int:
    """Exit code 0 when loading keeps both bounds."""
    number = QUICK_LINES if "--quick" in arguments else LINES
    with tempfile.TemporaryDirectory() as folder, Fleet(os.environ, Path(folder)) as fleet:
        fleet.serve(EmbeddedRedis())
        mongo = fleet.serve(EmbeddedMongo())
        file = Path(folder, "movie_ids_05_15_2026.json.gz")
        write_list(file, number)
        load = [*REELHAUL, "ids", "load", str(file), "--quiet"]
        seconds, peak_mb, code = measured(load, fleet.environment)
        again_s, _, again_code = measured(load, fleet.environment)
        audit_s, audit_mb, audit_code = measured([*REELHAUL, "verify", "--ids", "--quiet"], fleet.environment)
        figures = {
            "lines": number,
            "file_mb": round(file.stat().st_size / 1e6, 1),
            "load_s": round(seconds, 1),
            "load_peak_mb": round(peak_mb),
            "load_again_s": round(again_s, 1),
            "verify_s": round(audit_s, 1),
            "verify_peak_mb": round(audit_mb),
            "server_mb": round(resident_mb(mongo.pid)),
        }
    print(json.dumps(figures) if "--json" in arguments else ", ".join(f"{k} {v}" for k, v in figures.items()))
    # With nothing stored, every movie is missing.
    return int((code, again_code, audit_code) != (0, 0, 1) or seconds > BOUND_S or peak_mb > BOUND_MB)


def write_list(file: Path, number: int) -> None:
    """Write a list like TMDB's: ids with gaps, not quite in order, titles of all lengths."""
    chance = random.Random(7)  # noqa: S311 -- titles, no secret
    with gzip.open(file, "wt", compresslevel=5, encoding="utf-8") as lines:
        for place in range(number):
            movie = {
                "adult": False,
                "id": (place ^ 5) * 5 // 4 + 2,
                "original_title": f"Film {chance.randrange(10**6)} " + "von etwas " * chance.randrange(4),
                "popularity": round(chance.expovariate(1), 4),
                "video": chance.random() < 0.02,
            }
            lines.write(json.dumps(movie, ensure_ascii=False, separators=(",", ":")) + "\n")


def measured(argv: list[str], environment: dict[str, str]) -> tuple[float, float, int]:
    """A command's seconds, peak memory in MB, and exit code."""
    started = time.monotonic()
    pid = os.posix_spawn(argv[0], argv, environment)
    _, status, usage = os.wait4(pid, 0)
    return time.monotonic() - started, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def resident_mb(pid: int) -> float:
    """A process's resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
