"""README and docs: commands that parse, links that lead somewhere, tables and drawings as they are made."""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from celery.bin.celery import celery
from typer.exceptions import TyperException

from benchmarks.__main__ import BY_NAME, NAMES
from producer.cli.registry import app
from tests.support import drawings, settings_table
from tests.support.documents import DOCUMENTS, ROOT, anchors, commands, links, mentioned

#: Programs that are not ours, of which only the shell's syntax is checked.
NOT_OURS = {".", "cp", "chmod", "taskset", "mongodump", "mongorestore", "redis-cli", "pre-commit", "git"}


def parse_reelhaul(words: list[str]) -> None:
    """Parse as `reelhaul` would, without running: TyperException when it would not."""
    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="reelhaul")
    if words[0].startswith("-"):
        group.make_context("reelhaul", words, resilient_parsing=True)
        return
    name, command, rest = group.resolve_command(context, words)
    subcommands = getattr(command, "commands", {})
    if rest and rest[0] in subcommands:
        command, name, rest = subcommands[rest[0]], rest[0], rest[1:]
    if "--help" not in rest:
        command.make_context(name, rest, parent=context)


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z.-]+):", makefile, re.MULTILINE)) | {".venv"}
    assert {word for word in words if "=" not in word} <= targets


def check_celery(words: list[str]) -> None:
    assert words[0] == "-A"
    assert find_spec(words[1])
    name, *options = words[2:]
    celery.commands[name].make_context(name, options, resilient_parsing=True)


def check_python(words: list[str]) -> None:
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file()
    else:
        assert find_spec(words[1])
        if words[1] == "benchmarks" and words[2:]:
            assert words[2] in (*NAMES, *BY_NAME)


def check_pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert words[0] == "install"
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def check_docker(words: list[str]) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert words[0] == "compose"
    assert words[1] in {"up", "run", "build", "exec"}
    for scaled in re.findall(r"--scale (\w+)=", " ".join(words)):
        assert scaled in services


CHECKS = {
    "reelhaul": parse_reelhaul,
    "make": check_make,
    "celery": check_celery,
    "python": check_python,
    ".venv/bin/python": check_python,
    "pip": check_pip,
    "docker": check_docker,
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
class TestDocument:
    def test_every_command_parses(self, document: Path) -> None:
        for program, *words in commands(document):
            if program in CHECKS:
                CHECKS[program](words)
            else:
                assert program in NOT_OURS, program

    def test_every_command_within_a_sentence_parses(self, document: Path) -> None:
        for words in mentioned(document):
            if words[0] == "...":
                continue
            try:
                parse_reelhaul(words)
            except TyperException as error:  # a sentence may leave arguments out
                if not error.format_message().startswith("Missing argument"):
                    raise

    def test_every_link_leads_somewhere(self, document: Path) -> None:
        for link in links(document):
            name, _, anchor = link.partition("#")
            target = (document.parent / name) if name else document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_checks_can_fail() -> None:
    for program, words in (
        ("reelhaul", ["backfill", "--no-such-option"]),
        ("make", ["no-such-target"]),
        ("celery", ["-A", "worker.app", "no-such-command"]),
        ("python", ["-m", "benchmarks", "no-such-benchmark"]),
        ("pip", ["install", ".[no_such_extra]"]),
        ("docker", ["compose", "up", "--scale", "nobody=4"]),
    ):
        with pytest.raises((AssertionError, KeyError, TyperException)):
            CHECKS[program](words)


def test_every_document_can_be_reached_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert {str(document.relative_to(ROOT)) for document in DOCUMENTS[1:]} <= linked


def test_the_table_of_settings_is_the_one_that_make_docs_writes() -> None:
    assert settings_table.PAGE.read_text(encoding="utf-8") == settings_table.page(), "run `make docs`"


def test_the_drawings_are_those_that_make_docs_draws() -> None:
    for name, svg in drawings.drawings().items():
        assert drawings.path_of(name).read_text(encoding="utf-8") == svg, "run `make docs`"
