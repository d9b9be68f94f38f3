"""TMDB fails in every way the emulator knows, alone and all at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.harness import Rig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]

#: What passes: an answer that is none, too late, or another one than was asked for.
PASSING = [
    "429=1", "status=500", "status=502/html", "status=503/empty",
    "error=24", "error=46", "error-200", "html", "empty", "gzip", "not-json", "reset=start", "reset=head",
    "reset=body", "close", "truncate", "drip=1", "latency=1", "results=null", "results=object", "results=missing",
    "wrong-page",
]  # fmt: skip


@pytest.mark.quick
def test_a_tenth_of_all_answers_is_spoiled(rig: Start, report: Report) -> None:
    run = rig()
    run.emulator.configure(faults=[f"{fault}:p={0.1 / len(PASSING):.6f}" for fault in PASSING])
    run.start_beat()
    run.start_workers()
    run.backfill()
    run.completes()
    spoiled = sum(row[-1] is not None for row in run.emulator.log())
    assert spoiled > 0.03 * run.audit.planned
    report("every fault of the API at random, 10 % of answers", run)
