"""Measure that a fleet keeps the limit and uses it up, by the arrival log of an API that enforces it.

Steady: the API allows the configured rate, and 100 ms worth of requests more for those that arrive bunched.
Adaptive: the API allows half the configured rate, or changes its limit during the run.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import arrivals, plot
from benchmarks.fleet import LoadFleet, servers
from benchmarks.runs import Adaptive, Steady
from sandbox.servers import EmulatorProcess

RESULTS = Path(__file__).with_name("results")
LATENCY_MS = 150
CAPACITY = 5
#: Requests that the API admits above the limiter's capacity, in seconds of the rate (at least one request).
GRACE_S = 0.1
#: Threads, in seconds of the rate: twice the requests in flight, so that as many wait for a token.
THREADS_PER_RATE = 0.3
#: Seconds after each change of the API's limit in which an adaptive run is not in its steady state yet.
SETTLED_S = 60


def main(argv: Sequence[str]) -> int:
    """Run, print and plot; 1 when a promise was broken."""
    options = _options(argv)
    report = _progress if sys.stderr.isatty() or not options.json else (lambda _: None)
    steady: list[Steady] = []
    adaptive: list[Adaptive] = []
    for rate, processes, seconds in _plan(options):
        report(f"{rate:g}/s, {processes} processes, {seconds:g} s")
        steady.append(run_steady(rate, processes, seconds))
    for name in _scenarios(options):
        report(f"{name}, {SCENARIOS[name][0]} s")
        adaptive.append(run_adaptive(name))
    if options.rates:
        steady = _with_other_rates(steady)
    document = _document(steady, adaptive)
    suffix = "-quick" if options.quick else ""
    if steady:
        plot.steady(steady, RESULTS / f"limit{suffix}.png")
        _write({**document, "adaptive": []}, RESULTS / f"limit{suffix}.json")
    if adaptive:
        plot.adaptive(adaptive, RESULTS / "limit-adaptive.png")
        _write({"adaptive": document["adaptive"]}, RESULTS / "limit-adaptive.json")
    print(json.dumps(document, indent=1) if options.json else _table(steady, adaptive))
    return 0 if _kept(steady, adaptive) else 1


def run_steady(rate: float, processes: int, seconds: float) -> Steady:
    """All processes wait for a paused limiter; `seconds` begin when it resumes."""
    with servers("--latency-ms", str(LATENCY_MS)) as (redis, emulator, folder):
        _limit_to(emulator, rate)
        with LoadFleet(redis, emulator, folder, f"{rate:g}/s", CAPACITY) as fleet, fleet.limiter() as limiter:
            limiter.pause()
            fleet.start(processes, threads=_threads(rate, processes))
            limiter.resume()
            time.sleep(seconds)
        log = emulator.log()
    times = [row[1] for row in log]
    excess = arrivals.worst_excess(times, rate, CAPACITY)
    return Steady(
        rate=rate,
        processes=processes,
        seconds=round(times[-1] - times[0], 3),
        requests=len(times),
        utilisation=round(arrivals.utilisation(times, rate, CAPACITY), 4),
        refused=sum(row[2] == 429 for row in log),
        worst_excess=round(excess, 2),
        worst_excess_ms=round(1000 * excess / rate, 1),
        least_share=round(arrivals.least_share([(row[1], row[4].split(":")[0]) for row in log]), 3),
    )


def run_adaptive(name: str) -> Adaptive:
    """Four processes at 40/s against an API with the limits of a scenario."""
    configured, processes = 40.0, 4
    seconds, limits = SCENARIOS[name]
    with servers("--latency-ms", str(LATENCY_MS)) as (redis, emulator, folder):
        _limit_to(emulator, limits[0][1])
        with LoadFleet(redis, emulator, folder, f"{configured:g}/s", CAPACITY) as fleet:
            fleet.start(processes, threads=_threads(configured, processes))
            started = time.monotonic()
            for at, rate in limits[1:]:
                time.sleep(started + at - time.monotonic())
                _limit_to(emulator, rate)
            time.sleep(started + seconds - time.monotonic())
        log = [(int(row[1] - started), row[2]) for row in emulator.log() if row[1] >= started]
    accepted, refused = [0] * seconds, [0] * seconds
    for second, status in log:
        if second < seconds:
            (refused if status == 429 else accepted)[second] += 1
    ends = [at for at, _ in limits[1:]] + [seconds]
    spans = [(begin, end, rate) for (begin, rate), end in zip(limits, ends, strict=True)]

    def figures(skipped: int) -> tuple[float, float]:
        judged = [(second, rate) for begin, end, rate in spans for second in range(begin + skipped, end)]
        passed, denied = (sum(counts[second] for second, _ in judged) for counts in (accepted, refused))
        return round(passed / sum(rate for _, rate in judged), 4), round(denied / (passed + denied), 4)

    return Adaptive(
        name, configured, processes, seconds, *figures(SETTLED_S), *figures(0), limits, accepted, refused
    )


#: Seconds, and [(second, the API's rate from then on), ...].
SCENARIOS: dict[str, tuple[int, list[tuple[int, float]]]] = {
    "half the configured rate": (240, [(0, 20.0)]),
    "a limit that changes": (480, [(0, 40.0), (120, 20.0), (240, 30.0), (360, 15.0)]),
}


def _kept(steady: list[Steady], adaptive: list[Adaptive]) -> bool:
    return all(run.kept for run in steady) and all(run.kept for run in adaptive)


def _limit_to(emulator: EmulatorProcess, rate: float) -> None:
    emulator.configure(rate=rate, capacity=CAPACITY + max(1.0, GRACE_S * rate))


def _threads(rate: float, processes: int) -> int:
    return max(4, round(THREADS_PER_RATE * rate / processes))


def _plan(options: argparse.Namespace) -> list[tuple[float, int, float]]:
    if options.adaptive:
        return []
    if options.quick:
        return [(40.0, 4, options.seconds or 14.0), (200.0, 4, options.seconds or 12.0)]
    rates = options.rates or (10.0, 40.0, 200.0)
    return [(rate, n, options.seconds or 60.0) for rate in rates for n in (1, 2, 4, 8)]


def _scenarios(options: argparse.Namespace) -> list[str]:
    return [] if options.quick or options.steady else list(SCENARIOS)


def _document(steady: list[Steady], adaptive: list[Adaptive]) -> dict[str, Any]:
    """All results, the worst figures of the steady runs first."""
    return {
        "utilisation": min((run.utilisation for run in steady), default=None),
        "refused": sum(run.refused for run in steady),
        "worst_excess": max((run.worst_excess for run in steady), default=None),
        "worst_excess_ms": max((run.worst_excess_ms for run in steady), default=None),
        "kept": _kept(steady, adaptive),
        "runs": [asdict(run) for run in steady],
        "adaptive": [asdict(run) for run in adaptive],
    }


def _with_other_rates(steady: list[Steady]) -> list[Steady]:
    """This run's results, and those of earlier runs at other rates."""
    rates = {run.rate for run in steady}
    earlier = json.loads((RESULTS / "limit.json").read_text())["runs"]
    others = [Steady(**run) for run in earlier if run["rate"] not in rates]
    return sorted([*others, *steady], key=lambda run: (run.rate, run.processes))


def _write(document: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(document) + "\n")


def _table(steady: list[Steady], adaptive: list[Adaptive]) -> str:
    lines = []
    if steady:
        lines += [
            "| rate | processes | requests | utilisation | refused | worst excess | as ms | least share |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
    lines += [
        f"| {run.rate:g}/s | {run.processes} | {run.requests} | {run.utilisation:.4f} | {run.refused} "
        f"| {run.worst_excess:.2f} | {run.worst_excess_ms:.1f} | {run.least_share:.2f} |"
        for run in steady
    ]
    if adaptive:
        lines += [
            "",
            "| the API allows | configured | utilisation | refused | whole run: utilisation | refused |",
            "|---|---:|---:|---:|---:|---:|",
        ]
    lines += [
        f"| {run.name} | {run.configured:g}/s | {run.utilisation:.4f} | {100 * run.refused_share:.2f} % "
        f"| {run.whole_utilisation:.4f} | {100 * run.whole_refused_share:.2f} % |"
        for run in adaptive
    ]
    return "\n".join(lines)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks limit", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40/s and 200/s with 4 processes, under 50 s")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--seconds", type=float, help="length of one steady run")
    parser.add_argument("--rates", type=float, nargs="+", help="measure these again, keep the other results")
    parser.add_argument("--steady", action="store_true", help="the steady runs only")
    parser.add_argument("--adaptive", action="store_true", help="the adaptive runs only")
    return parser.parse_args(argv)
