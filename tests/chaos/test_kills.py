"""kill -9 while they work: of one worker, of a pool process, of all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.harness import Rig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Start = Callable[..., Rig]
Report = Callable[[str, Rig], None]


@pytest.mark.quick
def test_all_workers_killed_again_and_again(rig: Start, report: Report) -> None:
    run = rig()
    run.start_beat()
    run.start_workers()
    run.backfill()
    for share in (0.2, 0.6):
        run.until_stored(share)
        run.kill(*run.workers[:])
        run.start_workers()
    run.fault_is_over()
    run.completes()
    report("kill -9 of all workers, twice", run)
