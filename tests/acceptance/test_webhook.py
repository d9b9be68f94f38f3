"""REELHAUL_WEBHOOK with a whole fleet: docs/notifications.md."""

import re
from collections.abc import Iterator

import pytest

from tests.support.receiver import SECRETS, Receiver, receiver
from tests.support.stage import Stage, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

BACKFILL = ("backfill", "--genres", "Drama", "--years", "2018..2019", "--quiet")


@pytest.fixture
def receives(stage: Stage) -> Iterator[Receiver]:
    with receiver() as running:
        stage.environment["REELHAUL_WEBHOOK"] = running.url
        yield running


def wait_for_ticks(stage: Stage, ticks: int) -> None:
    """Return when the schedule was looked at so many times more."""

    def last() -> object:
        return (stage.database["schedule"].find_one({"_id": "sweep"}) or {}).get("claimed_at")

    for _ in range(ticks):
        before = last()
        wait_for(lambda before=before: last() != before, watching=stage.processes)  # type: ignore[misc]


def test_each_event_is_told_once_by_two_workers_and_two_beats(stage: Stage, receives: Receiver) -> None:
    server = stage.emulator("--movies", "500")
    server.configure(faults=["error=34:match=gte=2019-"])
    stage.environment["REELHAUL_LOG_LEVEL"] = "DEBUG"
    stage.use_schedule('[ids]\ndo = "ids"\nevery = "1d"\n')
    stage.environment["REELHAUL_IDS_URL"] += "/nowhere"
    for start in (stage.worker, stage.worker, stage.beat, stage.beat):
        start()
    assert stage.reelhaul(*BACKFILL).returncode == 1
    wait_for(lambda: len(receives.taken) >= 3, watching=stage.processes)
    wait_for_ticks(stage, 3)
    assert sorted(receives.events()) == ["quarantine-grew", "request-ended", "schedule-entry-failed"]
    # A key that TMDB rejects.
    server.configure(faults=["error=7"])
    stage.send(cells=[(18, "2017", 1)])
    wait_for(lambda: "limiter-stopped" in receives.events(), watching=stage.processes)
    wait_for_ticks(stage, 2)
    assert len(receives.taken) == receives.arrived == 4
    logs = "".join(process.log_text() for process in stage.processes)
    assert len(re.findall('"webhook told"', logs)) == 4
    assert not [secret for secret in SECRETS if secret in logs or secret in str(receives.taken)]
