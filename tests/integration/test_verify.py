"""The proof: distinct movies of every cell against what TMDB says, and the repair of a gap."""

import json

from tests.stage import Stage, wait_for

GENRE, YEAR = 18, 2024


def proof(stage: Stage) -> tuple[int, dict[str, object]]:
    told = stage.reelhaul("verify", "--json")
    return told.returncode, json.loads(told.stdout)


def test_it_proves_what_is_whole_and_names_what_is_not(stage: Stage) -> None:
    server = stage.emulator("--movies", "4000")
    worker = stage.worker()
    told = stage.reelhaul("verify")
    assert (told.returncode, len(told.stderr.splitlines())) == (2, 1)
    assert stage.reelhaul("backfill", "--genres", str(GENRE), "--years", str(YEAR)).returncode == 0
    assert proof(stage) == (0, {"cells": 1, "pages_missing": 0, "gaps": []})

    # Page 2 as it is when a movie of page 1 has slipped onto it: the one it displaced is on neither.
    page1, page2 = (
        stage.database["pages"].find_one({"_id": f"{GENRE}:{YEAR}:{number}"}) or {} for number in (1, 2)
    )
    shifted = [page1["movie_ids"][-1], *page2["movie_ids"][1:]]
    stage.database["pages"].update_one({"_id": page2["_id"]}, {"$set": {"movie_ids": shifted}})
    total = page1["total_results"]
    gap = {"cell": f"{GENRE}:{YEAR}", "found": total - 1, "said": total}
    assert proof(stage) == (1, {"cells": 1, "pages_missing": 0, "gaps": [gap]})

    before = server.stats()["arrivals"]
    repaired = stage.reelhaul("verify", "--repair")
    assert (repaired.returncode, "1 of" in repaired.stdout) == (1, True)
    wait_for(lambda: proof(stage)[0] == 0, watching=[worker])
    assert server.stats()["arrivals"] - before == page1["total_pages"]

    stage.database["pages"].delete_one({"_id": page2["_id"]})
    code, told_again = proof(stage)
    assert (code, told_again["pages_missing"]) == (1, 1)
