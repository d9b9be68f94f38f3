"""README and docs as a reader meets them: their commands, their Python, their links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: In the order of reading. examples/tour.md has a test of its own.
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: First words of commands in blocks that are only indented.
PROGRAMS = ("reelhaul", "make", "celery", "python", "pip", "docker", "taskset", ".venv/bin/python")


def commands(document: Path) -> list[list[str]]:
    """Every command that stands on a line of its own, in words, without its comment."""
    found = []
    for line in _lines(document.read_text(encoding="utf-8")):
        command = re.sub(r"\s{2,}.*", "", line)  # what it does stands to the right of it
        words = shlex.split(command, comments=True)
        if words:
            found.append(words)
    return found


def _lines(text: str) -> Iterator[str]:
    language = ""
    for line in text.splitlines():
        if line.startswith("```"):
            language = "" if language else line.removeprefix("```") or "none"
        elif language == "sh" or (
            not language and line.startswith("    ") and line.split()[:1] and line.split()[0] in PROGRAMS
        ):
            yield line.strip()


def mentioned(document: Path) -> list[list[str]]:
    """Every `reelhaul ...` within a sentence, in words."""
    quoted = re.findall(r"`reelhaul ([^`\n]+)`", document.read_text(encoding="utf-8").replace("\n", " "))
    return [shlex.split(words) for words in quoted]


def python(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


def links(document: Path) -> list[str]:
    """Targets of links and pictures within the repository, anchors included."""
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]


def anchors(document: Path) -> set[str]:
    """The anchors that a document's headings make on GitHub."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
