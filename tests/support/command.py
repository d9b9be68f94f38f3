"""Run `reelhaul ARGUMENTS` in a process forked from one that has imported everything: a second faster."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

_CONTEXT = multiprocessing.get_context("forkserver")
# Importing these builds no settings and no clients.
_CONTEXT.set_forkserver_preload(
    ["producer.cli.main", "producer.cli.registry", "producer.cli.details", "producer.cli.status"]
)


def run_command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, patience_s: float
) -> subprocess.CompletedProcess[str]:
    """Its exit code and output; after `patience_s` it is killed: subprocess.TimeoutExpired."""
    with TemporaryDirectory(prefix="reelhaul-command-") as scratch:
        out, err = Path(scratch) / "out", Path(scratch) / "err"
        child = _CONTEXT.Process(target=_run, args=(list(arguments), dict(environment), folder, out, err))
        child.start()
        child.join(patience_s)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired(["reelhaul", *arguments], patience_s, out.read_bytes())
        output = [path.read_text(encoding="utf-8") for path in (out, err)]
        return subprocess.CompletedProcess(["reelhaul", *arguments], child.exitcode, *output)


def _run(arguments: list[str], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["reelhaul", *arguments]
    from producer.cli.main import main  # noqa: PLC0415 -- in the child

    main()
