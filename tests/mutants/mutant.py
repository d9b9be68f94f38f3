"""A promise that a small edit breaks on purpose, and the test that must then fail."""

from pathlib import Path
from typing import NamedTuple


class Mutant(NamedTuple):
    """Replaces `old`, which occurs once in `file`, by `new`; then `test` must fail."""

    name: str
    #: The broken promise, quoted from the documentation.
    promise: str
    file: str
    old: str
    new: str
    #: pytest's node id of a test that passes without the edit.
    test: str
    #: Run by `--quick` and by `make chaos`.
    quick: bool = False

    def applied_to(self, root: Path) -> str:
        """The file's text after the edit; ValueError unless `old` occurs exactly once."""
        path = root / self.file
        if not path.is_file():
            raise ValueError(f"mutant {self.name}: there is no file {self.file}")
        text = path.read_text(encoding="utf-8")
        if (times := text.count(self.old)) != 1:
            raise ValueError(
                f"mutant {self.name}: the old text occurs {times} times in {self.file}, not once:\n{self.old}"
            )
        return text.replace(self.old, self.new)
