"""The host's connections to TMDB: shared evenly between its processes, never exceeded."""

import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox.processes import spawn
from tests.support.stage import PATIENCE_S, Stage, wait_for
from worker.errors import NoToken
from worker.tmdb.connections import COUNT_S, SETTLE_S, Connections, HostShare

LIMIT = 20
HOLD = """
import sys, time
from pathlib import Path
from worker.tmdb.connections import HostShare
share = HostShare(20, Path(sys.argv[1]))
while not share.size(): time.sleep(0.05)
print("holding", share.size(), flush=True)
time.sleep(600)
"""


def sizes(*shares: HostShare) -> list[int]:
    time.sleep(2 * SETTLE_S)  # until each has counted the others
    return [share.size() for share in shares]


def test_a_single_process_has_all_connections_at_once(tmp_path: Path) -> None:
    assert HostShare(LIMIT, tmp_path).size() == LIMIT


@pytest.mark.parametrize("number", [2, 3, 7, 20])
def test_shares_are_even_and_add_up(tmp_path: Path, number: int) -> None:
    shared = sizes(*(HostShare(LIMIT, tmp_path) for _ in range(number)))
    assert sum(shared) == LIMIT
    assert max(shared) - min(shared) <= 1


def test_surplus_processes_get_no_connection(tmp_path: Path) -> None:
    assert sorted(sizes(*(HostShare(2, tmp_path) for _ in range(3)))) == [0, 1, 1]


def test_a_new_process_waits_until_the_others_have_shrunk(tmp_path: Path) -> None:
    first = HostShare(LIMIT, tmp_path)
    assert first.size() == LIMIT
    second = HostShare(LIMIT, tmp_path)
    assert second.size() == 0
    assert sizes(first, second) == [LIMIT // 2, LIMIT // 2]


def test_a_process_that_leaves_or_is_killed_frees_its_share(tmp_path: Path) -> None:
    share = HostShare(LIMIT, tmp_path / "run")
    other = HostShare(LIMIT, tmp_path / "run")
    child = spawn([sys.executable, "-c", HOLD, str(tmp_path / "run")], log_path=tmp_path / "child.log")
    wait_for(lambda: "holding" in child.log_text(), watching=[child])
    assert sum(sizes(share, other)) < LIMIT
    child.kill()
    other.leave()
    wait_for(lambda: share.size() == LIMIT)


def test_at_most_as_many_threads_as_connections_pass(tmp_path: Path) -> None:
    connections = Connections(HostShare(3, tmp_path).size, shrink=lambda: None)
    inside, most, lock = 0, 0, threading.Lock()

    def visit() -> None:
        nonlocal inside, most
        with connections.hold(time.monotonic() + PATIENCE_S):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=visit) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


def test_no_connection_by_the_deadline_raises_no_token(tmp_path: Path) -> None:
    connections = Connections(HostShare(1, tmp_path).size, shrink=lambda: None)
    with connections.hold(time.monotonic() + 1), pytest.raises(NoToken, match="connection"):
        connections.hold(time.monotonic() + 0.1).__enter__()


def test_connections_are_closed_when_the_share_shrinks() -> None:
    size, shrunk = 4, []
    connections = Connections(lambda: size, shrink=lambda: shrunk.append(size))
    with connections.hold(time.monotonic() + 1):
        size = 2
    with connections.hold(time.monotonic() + 1):
        pass
    assert shrunk == [2]


@pytest.mark.timeout(120)
def test_three_workers_of_a_host_open_at_most_20_connections(stage: Stage) -> None:
    stage.environment |= {"REELHAUL_CONNECTIONS": "20", "REELHAUL_CONCURRENCY": "16"}
    server = stage.emulator("--movies", "4000", "--latency-ms", "300")
    stage.send(cells=[(18, str(year), 1) for year in range(1960, 2026)])
    workers = [stage.worker() for _ in range(3)]
    wait_for(lambda: len(stage.stored_pages()) >= 66, watching=workers)
    peak = server.stats()["peak_connections"]
    # The test's own requests to the emulator use one or two more.
    assert peak <= 20 + 2
    assert server.stats()["peak_concurrent_requests"] <= 20 + 2
    assert peak > 12


def test_a_process_joins_again_when_its_file_or_the_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    share, other = (HostShare(LIMIT, folder) for _ in range(2))
    assert sizes(share, other) == [LIMIT // 2] * 2

    def both_have_joined() -> bool:
        found = [share.size(), other.size()]
        return len(list(folder.glob("*"))) == 2 and found == [LIMIT // 2] * 2

    for file in folder.iterdir():
        file.unlink()
    wait_for(both_have_joined)
    shutil.rmtree(folder)
    wait_for(both_have_joined)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_worker_continues_when_its_run_folder_is_removed(stage: Stage) -> None:
    stage.emulator("--movies", "1000")
    worker = stage.worker()
    stage.send(cells=[(18, "1990", 1)])
    wait_for(lambda: "18:1990:1" in stage.stored_pages(), watching=[worker])
    shutil.rmtree(stage.environment["REELHAUL_RUN_FOLDER"])
    time.sleep(COUNT_S)  # until the worker counts the processes again
    stage.send(cells=[(18, str(year), 1) for year in range(2000, 2020)])
    wait_for(
        lambda: all(f"18:{year}:1" in stage.stored_pages() for year in range(2000, 2020)), watching=[worker]
    )
    assert stage.database["failures"].count_documents({}) == 0


def test_an_unusable_run_folder_is_waited_for(tmp_path: Path) -> None:
    share = HostShare(LIMIT, tmp_path / "run")
    connections = Connections(share.size, shrink=lambda: None)
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").symlink_to(tmp_path)
    time.sleep(COUNT_S)
    with pytest.raises(NoToken, match=r"no connections: run folder .* is a symbolic link"):
        connections.hold(time.monotonic() + 0.1).__enter__()
    (tmp_path / "run").unlink()
    with connections.hold(time.monotonic() + PATIENCE_S):
        assert share.size() == LIMIT
