"""One promise, broken on purpose by a small edit, and the test that must notice."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Mutant(NamedTuple):
    """`old`, which occurs once in `file`, becomes `new`; then `test` must fail."""

    name: str
    #: What is broken, in the words of the documentation.
    promise: str
    file: str
    old: str
    new: str
    #: pytest's node id, of one test that passes without the edit.
    test: str
    #: Run by `--quick`, and with it by `make chaos`.
    quick: bool = False

    def applied_to(self, root: Path) -> str:
        """The file's text with the edit; ValueError when `old` does not occur exactly once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (times := text.count(self.old)) != 1:
            raise ValueError(
                f"mutant {self.name}: the old text occurs {times} times in {self.file}, not once"
            )
        return text.replace(self.old, self.new)
