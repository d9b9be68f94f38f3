"""docs/command-line.md: every command with --json prints what its example there shows."""

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from producer.cli.registry import COMMANDS
from tests.support.stage import Stage

DOCS = Path(__file__).parents[2] / "docs" / "command-line.md"
#: The command and the example of each section.
EXAMPLES = re.findall(
    r"^### reelhaul (.*?)\n.*?```json\n(.*?)```", DOCS.read_text(), re.MULTILINE | re.DOTALL
)


def differences(found: Any, shown: Any, at: str = "") -> Iterable[str]:
    """Where the value is not what the example shows: other keys, other kinds of value."""
    if isinstance(found, dict) and isinstance(shown, dict):
        if len(shown) == 1 and (name := next(iter(shown))).isupper():
            shown = dict.fromkeys(found, shown[name])
        if found.keys() != shown.keys():
            yield f"{at or 'the value'}: {sorted(found.keys() ^ shown.keys())}"
        for name in found.keys() & shown.keys():
            yield from differences(found[name], shown[name], f"{at}.{name}")
    elif isinstance(found, list) and isinstance(shown, list):
        for one in found:
            yield from differences(one, shown[0] if shown else None, f"{at}[]")
    elif shown is not None and _kind(found) != _kind(shown):
        yield f"{at}: {found!r} instead of {shown!r}"


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


@pytest.mark.parametrize(
    ("found", "shown", "where"),
    [
        ({"a": 1}, {"a": 2.5}, []),
        ({"a": "x"}, {"a": None}, []),
        ({"a": {"Drama": 1}}, {"a": {"GENRE": 2}}, []),
        ({"a": 1, "b": 2}, {"a": 1}, ["the value: ['b']"]),
        ({"a": [{"b": "x"}]}, {"a": [{"b": 1}]}, [".a[].b: 'x' instead of 1"]),
        ({"a": None}, {"a": 1}, [".a: None instead of 1"]),
    ],
)
def test_differences(found: Any, shown: Any, where: list[str]) -> None:
    assert list(differences(found, shown)) == where


def test_each_json_is_what_the_docs_show(stage: Stage) -> None:
    stage.emulator("--movies", "600", "--fault", "error=34:match=gte=2020-")
    stage.environment["REELHAUL_RETENTION"] = "9000d"  # a date in the docs stays what it is
    stage.worker()
    movie = {"id": 5, "title": "Old", "genre_ids": [18], "release_date": "1999-01-01"}
    (stage.folder / "old.jsonl").write_text(json.dumps(movie) + "\n")
    listed = ({"adult": False, "id": id_, "video": False, "popularity": 1.0} for id_ in (1, 2, 3))
    (stage.folder / "ids.json").write_text("".join(json.dumps(line) + "\n" for line in listed))
    printed = {}
    for command, example in EXAMPLES:
        ended = stage.reelhaul(*shlex.split(command))
        assert ended.stderr == "", command
        assert ended.stdout.count("\n") == 1, command
        found = printed[command] = json.loads(ended.stdout)
        assert list(differences(found, json.loads(example))) == [], command
    assert printed["verify --json"]["gaps"]
    assert printed["failures --json"]
    assert printed["failures retry --json"] == {"enqueued": 1}
    assert printed["verify --ids --json"]["missing"]


def test_every_command_that_can_print_json_is_in_the_docs() -> None:
    text = DOCS.read_text()
    runs_servers = {"standalone", "demo", "emulator", "health"}
    for name in COMMANDS.keys() - runs_servers:
        assert re.search(rf"`?reelhaul {name}\b.*--json|`{name}`.*print", text), name
