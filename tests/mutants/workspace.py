"""A copy of the tree with an interpreter of its own, on which one test at a time is run."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import Mutant

#: Seconds that one test may take with all that it starts; pytest itself ends a test that hangs after 180.
RUN_S = 300.0
#: Seconds that a test waits for what a broken promise may keep from ever happening.
PATIENCE_S = 15.0
#: Errors that tell of a broken edit, or a broken test, and not of a broken promise.
NO_KILL = (
    "NameError",
    "UnboundLocalError",
    "SyntaxError",
    "ImportError",
    "ModuleNotFoundError",
    "FixtureLookupError",
)
NO_KILL_WORDS = "Script attempted to access nonexistent global variable"
#: What mutants edit.
PACKAGES = ("worker", "producer", "sandbox")
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "tests.mutants.witness", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Verdict:
    """How one run of a test ended: passed, failed, skipped, or broken (neither tells anything)."""

    outcome: str
    #: The failure, or what was broken, in one line.
    said: str
    seconds: float


def files_under(root: Path) -> list[str]:
    """What git would commit there: no environment, no caches, nothing of an earlier run.

    Raises RuntimeError where git does not know.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise RuntimeError(f"{root} is no git checkout: git says which files are copied") from None
    return [name for name in map(os.fsdecode, listed.split(b"\0")) if name and (root / name).is_file()]


class Workspace:
    """A copy of the `files` under `root`, made in `folder`; safe for one thread."""

    def __init__(self, root: Path, files: Iterable[str], folder: Path) -> None:
        self._tree, self._scratch = folder / "tree", folder
        for name in files:
            target = self._tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((root / name).read_bytes())
        self._python = self._interpreter(folder / "venv")
        asked = (
            "import producer, sandbox, worker; print(producer.__file__, sandbox.__file__, worker.__file__)"
        )
        told = self.python(asked, folder).split()
        if not all(Path(path).is_relative_to(self._tree) for path in told):
            raise RuntimeError(f"the tests would run {told}, not the copy in {self._tree}")
        self._runs = 0

    def run(self, test: str, mutant: Mutant | None = None) -> Verdict:
        """Run the test, with the mutant's edit or without any."""
        if mutant is None:
            return self._run(test, "")
        path = self._tree / mutant.file
        original, mutated = path.read_text(encoding="utf-8"), mutant.applied_to(self._tree)
        try:
            path.write_text(mutated, encoding="utf-8")
            return self._run(test, mutant.file)
        finally:
            path.write_text(original, encoding="utf-8")

    def python(self, code: str, folder: Path) -> str:
        """What a few lines print, run in a folder of their own as a test's child would be."""
        command = [str(self._python), "-I", "-c", code]
        return subprocess.check_output(command, cwd=folder, env={}, text=True)

    def _interpreter(self, folder: Path) -> Path:
        """Python with this one's packages, and the copy where this one has the project itself.

        An interpreter, not a variable of the environment: whatever a test starts, however, runs the copy.
        """
        venv.create(folder, symlinks=True, with_pip=False)
        python = folder / "bin" / "python"
        packages = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"]
        # A .pth file there names folders; those .pth files that lie in such a folder are not read.
        Path(packages, "mutant.pth").write_text(f"{self._tree}\n{sysconfig.get_path('purelib')}\n")
        command = folder / "bin" / "reelhaul"
        command.write_text(f"#!{python}\nfrom producer.cli.main import main\nmain()\n")
        command.chmod(0o755)
        # Told by their source's hash, and written anew so: an edit within the same second is not overlooked.
        compile_all = ("compileall", "-q", "--invalidation-mode", "checked-hash", *PACKAGES)
        subprocess.run([python, "-m", *compile_all], cwd=self._tree, check=True)
        return python

    def _run(self, test: str, edited: str) -> Verdict:
        self._runs += 1
        report = self._scratch / f"report{self._runs}.json"
        files = self._scratch / f"files{self._runs}"
        chaos = ["--full"] if test.startswith("tests/chaos/") else []
        command = [str(self._python), *PYTEST, f"--basetemp={files}", *chaos, test]
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))
        }
        begun = time.monotonic()
        try:
            ended = subprocess.run(
                command,
                cwd=self._tree,
                env={
                    **kept,
                    "TEST_PATIENCE_S": f"{PATIENCE_S:g}",
                    "MUTANT_REPORT": str(report),
                    "MUTANT_FILE": edited,
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=RUN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict("broken", f"not done within {RUN_S:g} s", time.monotonic() - begun)
        seen = json.loads(report.read_text(encoding="utf-8")) if report.exists() else []
        outcome, said = judge(seen, ended.stdout + ended.stderr)
        return Verdict(outcome, said, time.monotonic() - begun)


def judge(seen: list[dict[str, str]], output: str) -> tuple[str, str]:
    """What the reports of a run say: outcome and one line.

    Only a call that failed is a failure: what fails before a test's own first line, or for a name that
    nobody has defined, tells nothing of a promise.
    """
    for report in seen:
        said = " ".join(report["said"].split())
        if report["outcome"] == "failed":
            broken = report["when"] != "call" or report["error"] in NO_KILL or NO_KILL_WORDS in said
            return ("broken", f"{report['when']}: {said}") if broken else ("failed", said)
        if report["outcome"] == "skipped":
            return "skipped", said
    if not any(report["when"] == "call" for report in seen):
        return "broken", " ".join(output.split())[-300:]
    return "passed", ""
