"""A copy of the tree with its own interpreter, in which one test at a time runs."""

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

#: Seconds for one run of pytest, which itself ends a hanging test after 180.
RUN_S = 300.0
#: TEST_PATIENCE_S: seconds that a test waits for something that a broken promise may prevent.
PATIENCE_S = 15.0
#: Errors of a broken edit or test; they do not show that the promise is tested.
NO_KILL = (
    "NameError",
    "UnboundLocalError",
    "SyntaxError",
    "ImportError",
    "ModuleNotFoundError",
    "FixtureLookupError",
)
NO_KILL_MESSAGE = "Script attempted to access nonexistent global variable"
#: The packages that mutants edit.
PACKAGES = ("worker", "producer", "reelhaul", "sandbox")
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "tests.mutants.witness", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Verdict:
    """How a run ended: passed, failed, skipped, or broken, which shows nothing."""

    outcome: str
    #: The failure or the reason on one line.
    detail: str
    seconds: float


def files_under(root: Path) -> list[str]:
    """The files under `root` that git would commit; RuntimeError where it is no checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise RuntimeError(
            f"{root} is not a git checkout: the files to copy are those that git lists"
        ) from None
    return [name for name in map(os.fsdecode, listed.split(b"\0")) if name and (root / name).is_file()]


class Workspace:
    """A copy in `folder` of the `files` under `root`; for one thread."""

    def __init__(self, root: Path, files: Iterable[str], folder: Path) -> None:
        self._tree, self._scratch = folder / "tree", folder
        for name in files:
            target = self._tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((root / name).read_bytes())
        self._python = self._interpreter(folder / "venv")
        code = "import producer, sandbox, worker; print(producer.__file__, sandbox.__file__, worker.__file__)"
        found = self.python(code, folder).split()
        if not all(Path(path).is_relative_to(self._tree) for path in found):
            raise RuntimeError(f"the tests would import {found}, not the copy in {self._tree}")
        self._runs = 0

    def run(self, test: str, mutant: Mutant | None = None) -> Verdict:
        """Run the test, with the mutant's edit or without one."""
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
        """The output of some code, run in `folder` without this environment, as a test's child may be."""
        command = [str(self._python), "-I", "-c", code]
        return subprocess.check_output(command, cwd=folder, env={}, text=True)

    def _interpreter(self, folder: Path) -> Path:
        """A Python with the packages of this one, and the copy in place of this project.

        Not an environment variable: every process that a test starts, however it does, runs the copy.
        """
        venv.create(folder, symlinks=True, with_pip=False)
        python = folder / "bin" / "python"
        packages = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"]
        # Python does not read the .pth files in a folder that a .pth file names.
        Path(packages, "mutant.pth").write_text(f"{self._tree}\n{sysconfig.get_path('purelib')}\n")
        command = folder / "bin" / "reelhaul"
        command.write_text(f"#!{python}\nfrom producer.cli.main import main\nmain()\n")
        command.chmod(0o755)
        # Checked by the source's hash: a time stamp would miss an edit within the same second.
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
        started = time.monotonic()
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
            return Verdict("broken", f"not finished within {RUN_S:g} s", time.monotonic() - started)
        seen = json.loads(report.read_text(encoding="utf-8")) if report.exists() else []
        outcome, detail = judge(seen, ended.stdout + ended.stderr)
        return Verdict(outcome, detail, time.monotonic() - started)


def judge(seen: list[dict[str, str]], output: str) -> tuple[str, str]:
    """Outcome and detail of a run's reports.

    Only a failure of the test's own call counts: a failure of its setup, or for an undefined name, says nothing
    about the promise.
    """
    for report in seen:
        detail = " ".join(report["message"].split())
        if report["outcome"] == "failed":
            broken = report["when"] != "call" or report["error"] in NO_KILL or NO_KILL_MESSAGE in detail
            return ("broken", f"{report['when']}: {detail}") if broken else ("failed", detail)
        if report["outcome"] == "skipped":
            return "skipped", detail
    if not any(report["when"] == "call" for report in seen):
        return "broken", " ".join(output.split())[-300:]
    return "passed", ""
