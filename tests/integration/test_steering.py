"""`reelhaul backfills`, `cancel`, `resume` and `forget`, with a worker that works meanwhile."""

import json

import pytest
import redis

from tests.support.comparison import page_requests
from tests.support.stage import Stage, wait_for
from worker.app import QUEUES

pytestmark = pytest.mark.timeout(120)

THREADS = 8


def backfills(stage: Stage) -> dict[str, str]:
    """The state of each request, by id."""
    ended = stage.reelhaul("backfills", "--json")
    assert ended.returncode == 0, ended.stderr
    return {row["id"]: row["state"] for row in json.loads(ended.stdout)}


def waiting(stage: Stage) -> int:
    """Messages in the queues and with workers; ask twice, for a message that is being taken is in neither."""
    with redis.Redis.from_url(stage.redis_url) as client:
        queued = sum(int(client.llen(f"{{reelhaul}}:{queue}")) for queue in QUEUES)
        return queued + int(client.hlen("{reelhaul}:unacked"))


def test_a_cancelled_backfill_makes_as_many_more_requests_as_there_are_threads(stage: Stage) -> None:
    stage.environment["REELHAUL_RATE"] = "150"
    server = stage.emulator("--movies", "20000")
    assert stage.reelhaul("backfill", "--years", "1950..2025", "--detach").returncode == 0
    assert stage.reelhaul("backfill", "--genres", "War", "--years", "1950..2025", "--detach").returncode == 0
    (war, _), (whole, _) = backfills(stage).items()
    worker = stage.worker()
    wait_for(lambda: sum(page_requests(server).values()) > 100, watching=[worker])
    assert waiting(stage) > 1_000
    ended = stage.reelhaul("cancel", whole)
    assert ended.returncode == 0, ended.stderr
    before = page_requests(server)
    wait_for(lambda: not waiting(stage) and not waiting(stage), watching=[worker])
    more = page_requests(server) - before
    assert sum(number for id_, number in more.items() if not id_.startswith("10752:")) <= THREADS
    # What the other request wants as well was fetched all the same.
    assert backfills(stage) == {war: "finished", whole: "cancelled"}
    assert stage.database["pages"].count_documents({}) < 1_000


@pytest.mark.parametrize("steer", [("cancel",), ("forget", "--yes")])
def test_messages_that_wait_are_dropped_and_not_sent_again(stage: Stage, steer: tuple[str, ...]) -> None:
    server = stage.emulator("--movies", "500")
    first = stage.worker()
    assert stage.reelhaul("popular", "--pages", "5", "-q").returncode == 0
    first.stop()
    assert ": 100 messages sent" in stage.reelhaul("details", "--detach").stdout
    [details] = [id_ for id_, state in backfills(stage).items() if state == "unfinished"]
    fetched = len(server.log())
    command, *options = steer
    ended = stage.reelhaul(command, details, *options)
    assert ended.returncode == 0, ended.stderr
    worker = stage.worker()
    wait_for(lambda: not waiting(stage) and not waiting(stage), watching=[worker])
    assert stage.reelhaul("schedule", "run", "sweep").returncode == 0
    wait_for(lambda: bool(stage.schedule_outcome("sweep")), watching=[worker])
    assert stage.schedule_outcome("sweep") == "0 sent"
    assert len(server.log()) == fetched
    assert stage.database["movies"].count_documents({}) == 100


def test_resume_takes_a_request_up_and_forget_keeps_what_it_fetched(stage: Stage) -> None:
    server = stage.emulator("--movies", "1000")
    assert (
        stage.reelhaul("backfill", "--genres", "Drama", "--years", "1990..2025", "--detach").returncode == 0
    )
    [request_id] = backfills(stage)
    assert stage.reelhaul("cancel", request_id).returncode == 0
    worker = stage.worker()
    wait_for(lambda: not waiting(stage) and not waiting(stage), watching=[worker])
    assert not page_requests(server)
    assert backfills(stage) == {request_id: "cancelled"}
    assert "or all of it was cancelled" in stage.reelhaul("verify").stderr
    followed = stage.reelhaul("resume", request_id)
    assert followed.returncode == 0, followed.stderr
    assert backfills(stage) == {request_id: "finished"}
    assert stage.reelhaul("verify").returncode == 0
    assert stage.reelhaul("backfill", "--genres", "War", "--years", "2025", "--detach").returncode == 0
    [other] = backfills(stage).keys() - {request_id}
    assert stage.reelhaul("cancel", other).returncode == 0
    assert "left out: 1 cancelled backfill\n" in stage.reelhaul("verify").stdout
    assert stage.reelhaul("forget", other, "--yes").returncode == 0
    before = {name: stage.database[name].count_documents({}) for name in ("pages", "movies")}
    assert stage.reelhaul("forget", request_id, "--yes").returncode == 0
    assert backfills(stage) == {}
    assert {name: stage.database[name].count_documents({}) for name in before} == before


def test_a_request_with_an_id_of_a_persons_own_is_fetched(stage: Stage) -> None:
    stage.emulator("--movies", "500")
    assert stage.reelhaul("backfill", "--genres", "War", "--years", "2000..2002", "--detach").returncode == 0
    saved = stage.database["requests"].find_one_and_delete({})
    assert saved
    stage.database["requests"].insert_one({**saved, "_id": "mine"})
    worker = stage.worker()
    wait_for(lambda: not waiting(stage) and not waiting(stage), watching=[worker])
    assert not stage.stored_pages()  # these messages were of a request that is not there any more
    assert stage.reelhaul("schedule", "run", "sweep").returncode == 0
    wait_for(lambda: len(stage.stored_pages()) == 3, watching=[worker])


@pytest.mark.parametrize("command", ["cancel", "resume", "forget"])
def test_an_unknown_id_is_one_line(stage: Stage, command: str) -> None:
    ended = stage.reelhaul(command, "no such")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "reelhaul: no request 'no such'; `reelhaul backfills` lists them all\n"


def test_following_ends_when_somebody_cancels(stage: Stage) -> None:
    stage.environment["REELHAUL_RATE"] = "2"
    stage.emulator("--movies", "500")
    stage.worker()
    following = stage.begin("backfill", "--genres", "War", "--years", "1950..2025")
    wait_for(lambda: bool(backfills(stage)), watching=[following])
    [request_id] = backfills(stage)
    assert stage.reelhaul("cancel", request_id).returncode == 0
    assert following.wait(30) == 1
    assert f"backfill {request_id} was cancelled" in following.log_text()
    ended = stage.reelhaul("status")
    assert "cancelled, " in ended.stdout
    assert json.loads(stage.reelhaul("status", "--json").stdout)[0]["cancelled"] is True
