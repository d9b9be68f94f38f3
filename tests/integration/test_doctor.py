"""`reelhaul doctor` and commands that reach no usable TMDB: what they name, and what they blame."""

import json

from sandbox.embedded import free_port
from tests.support.stage import Stage


def tmdb_check(stage: Stage) -> dict[str, str]:
    ended = stage.reelhaul("doctor", "--json")
    report = json.loads(ended.stdout)
    [check] = [check for check in report["checks"] if check["check"] == "TMDB"]
    assert check["ok"] == report["ok"] == (ended.returncode == 0)
    return dict(check)


def test_an_accepted_key_is_named_with_the_address(stage: Stage) -> None:
    server = stage.emulator("--movies", "10")
    text = tmdb_check(stage)["text"]
    assert text == f"TMDB_TOKEN is accepted by {server.base_url}/configuration (HTTP 200)"


def test_a_rejected_key_is_blamed(stage: Stage) -> None:
    server = stage.emulator("--movies", "10")
    stage.environment["TMDB_TOKEN"] = "wrong-token-of-nobody"  # noqa: S105 -- what the emulator rejects
    check = tmdb_check(stage)
    assert check["text"].startswith(f"{server.base_url}/configuration: TMDB rejects the key (HTTP 401")
    assert "set TMDB_TOKEN" in check["advice"]


def test_a_missing_key_is_blamed(stage: Stage) -> None:
    stage.emulator("--movies", "10")
    stage.environment["TMDB_TOKEN"] = ""
    check = tmdb_check(stage)
    assert check["text"] == "no key is set"
    assert check["advice"].startswith("set TMDB_TOKEN")


def test_without_redis_the_key_is_not_blamed(stage: Stage) -> None:
    server = stage.emulator("--movies", "10")
    stage.environment["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    check = tmdb_check(stage)
    assert check["text"] == f"{server.base_url}/configuration was not asked: no request without Redis"
    assert check["advice"] == "fix that first"


def test_an_outage_is_not_blamed_on_the_key(stage: Stage) -> None:
    server = stage.emulator("--movies", "10", "--fault", "status=503")
    check = tmdb_check(stage)
    assert check["text"].startswith(f"{server.base_url}/configuration: HTTP 503")
    assert check["advice"] == "check TMDB_BASE_URL and the network; the key may be right"


def test_an_outage_that_others_had_is_mentioned(stage: Stage) -> None:
    stage.emulator("--movies", "10", "--fault", "status=503:count=3")
    for _ in range(3):  # in a row: the limiter closes
        assert "HTTP 503" in tmdb_check(stage)["text"]
    assert "others had an outage: do workers use the same TMDB_BASE_URL?" in tmdb_check(stage)["text"]
    assert "others" not in tmdb_check(stage)["text"]


def test_a_command_names_the_address_that_gave_no_usable_response(stage: Stage) -> None:
    address = f"http://127.0.0.1:{free_port()}/3"
    stage.environment["TMDB_BASE_URL"] = address
    ended = stage.reelhaul("genres")
    assert ended.returncode == 2
    assert f"; last asked: {address}/" in ended.stderr
