"""Every command and every line of Python in README and docs: run against the sandbox, or at least parsed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.documents import DOCUMENTS, ROOT, commands, python
from tests.support.stage import Stage

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

#: What is not run here, by its first words. tests/unit/test_docs.py parses all of it.
NOT_RUN = {
    "reelhaul standalone": "runs until Ctrl-C: test_standalone.py",
    "reelhaul status --watch": "runs until Ctrl-C: test_watch.py",
}
#: The answer may be no.
MAY_BE_NO = {"verify", "fresh"}
URL = "mongodb://127.0.0.1/reelhaul"
FILES_HOST = "https://files.tmdb.org"
#: Shows what a script does that asks TMDB itself.
NOT_OURS = "api.themoviedb.org"


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def test_every_command_runs(stage: Stage) -> None:
    server = stage.emulator("--movies", "200")
    shown = {"id": 603, "title": "The Matrix", "release_date": "1999-03-31"}
    server.change_movies(upsert=[{**next(iter(server.movies().values())), **shown}])
    # A date in the docs stays what it is.
    stage.environment |= {"REELHAUL_RETENTION": "9000d", "REELHAUL_RATE": "2000", "COLUMNS": "100"}
    stage.worker()
    movie = {"id": 5, "title": "Old", "genre_ids": [18], "release_date": "1999-01-01"}
    for name in ("old.jsonl", "ids.json"):
        (stage.folder / name).write_text(json.dumps(movie) + "\n")
    ran = set[tuple[str, ...]]()
    for document in DOCUMENTS:
        for words in commands(document):
            command = " ".join(words)
            if words[0] != "reelhaul" or command.startswith(tuple(NOT_RUN)) or tuple(words) in ran:
                continue
            ran.add(tuple(words))
            given = [word.replace(FILES_HOST, f"http://127.0.0.1:{server.port}") for word in words[1:]]
            ended = stage.reelhaul(*given)
            answers = {0, 1} if words[1] in MAY_BE_NO else {0}
            where = f"{name_of(document)}: {command}: {ended.stdout}{ended.stderr}"
            assert ended.returncode in answers, where
            assert ended.stderr == "", where
            if words[1] == "limit":
                stage.reelhaul("limit", "set", "default")
                stage.reelhaul("limit", "resume")
    assert len(ran) >= 40
    _run_python(stage)


def _run_python(stage: Stage) -> None:
    """The lines of Python, on what the commands have stored."""
    ran = 0
    for document in DOCUMENTS:
        for source in python(document):
            compile(source, name_of(document), "exec")
            if NOT_OURS in source:
                continue
            assert URL in source
            ended = _python(source.replace(URL, stage.mongo_url), stage)
            assert (ended.returncode, ended.stderr) == (0, ""), name_of(document)
            ran += 1
    assert ran >= 2


def _python(source: str, stage: Stage) -> "subprocess.CompletedProcess[str]":
    words: Sequence[str] = [sys.executable, "-c", source]
    return subprocess.run(
        words,
        env=stage.environment,
        cwd=stage.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
