"""Runs the services of docker-compose.yml as processes in namespaces, without an engine.

Each has the service's command, environment, user and volumes, a read-only root, its own host name, process
ids and /tmp, and no capabilities. The networks and the engine's own rules are missing; the image too,
unless one is given (tests/image_check.py).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from sandbox.processes import ChildProcess, spawn

ROOT = Path(__file__).resolve().parents[2]
#: What the image holds; only root may write there.
IMAGE = ("/usr", "/etc", str(ROOT), sys.prefix, sys.base_prefix, *filter(os.path.isdir, sys.path))
#: Where the image has its commands; here they run this tree.
BIN = "/opt/reelhaul/bin"
COMMANDS = {"reelhaul": "producer.cli.main", "celery": "celery.__main__"}
_VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-+?])([^}]*))?\}")
_INSTALLED = re.compile(r"install --directory --owner reelhaul --mode (\d+) (\S+)")
NAMESPACES = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child")
ENTER = (*NAMESPACES, "sh", str(ROOT / "tests" / "container.sh"))


def can_run() -> bool:
    """Whether this machine can make namespaces: that takes root and util-linux."""
    tools = all(map(shutil.which, ("unshare", "nsenter", "setpriv")))
    return (
        tools
        and os.geteuid() == 0
        and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode
    )


def first_process(container: ChildProcess) -> int:
    """This machine's pid of the container's process 1; 0 before it exists."""
    for child in Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split():
        with suppress(OSError):
            if Path(f"/proc/{child}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink():
                return int(child)
    return 0


class Project:
    """The compose file with a `.env`, in a folder of its own; volumes are folders.

    `image` is the root of an image's files. Without one the services run this tree.
    """

    def __init__(
        self,
        folder: Path,
        dotenv: Mapping[str, str],
        replaced: Mapping[str, str],
        image: Path | None = None,
    ) -> None:
        self.folder, self._dotenv, self._replaced = folder, dict(dotenv), dict(replaced)
        self._image = image
        self.services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        dockerfile = (ROOT / "Dockerfile").read_text()
        self._uid = int(re.findall(r"useradd .*--uid (\d+)", dockerfile)[0])
        #: A new volume has the mode that its folder has in the image.
        self._modes = {target: int(mode, 8) for mode, target in _INSTALLED.findall(dockerfile)}
        self._started = 0
        self._processes: list[ChildProcess] = []
        (self.folder / "bin").mkdir(exist_ok=True)
        for name, module in COMMANDS.items():
            command = self.folder / "bin" / name
            command.write_text(f"#!{sys.executable}\nfrom {module} import main\nmain()\n")
            command.chmod(0o755)

    def stop(self) -> None:
        """Kill everything that was started."""
        for process in self._processes:
            # A process that changes its user survives its parent despite --kill-child; killing process 1 of
            # a namespace kills all others in it.
            if process.running and (inner := first_process(process)):
                with suppress(ProcessLookupError):
                    os.kill(inner, signal.SIGKILL)
            process.kill()

    def environment(self, name: str) -> dict[str, str]:
        """The environment of the service's processes."""
        service = self.services[name]
        seen = dict(self._dotenv) if service.get("env_file") == ".env" else {}
        seen |= {variable: self.filled(str(value)) for variable, value in service["environment"].items()}
        image = {"PATH": f"{BIN}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
        if not self._image:
            image["PYTHONPATH"] = str(ROOT)
        return image | {variable: self._replaced.get(value, value) for variable, value in seen.items()}

    def start(self, name: str, *arguments: str, hostname: str = "") -> ChildProcess:
        """Start what `docker compose run NAME ARGUMENTS` would, or `up` when there are no arguments."""
        service, self._started = self.services[name], self._started + 1
        root = Path(tempfile.mkdtemp(dir=self.folder, prefix="root-"))
        user = self.filled(str(service.get("user", self._uid)))
        uid, _, gid = user.partition(":")
        bound: list[tuple[str, str]] = []
        if not self._image:
            bound = [(path, path) for path in dict.fromkeys(IMAGE)] + [(str(self.folder / "bin"), BIN)]
        bound += [self._volume(volume) for volume in service.get("volumes", ())]
        image, folder = str(self._image or ""), service.get("working_dir", "/tmp")  # noqa: S108
        own = (hostname or f"{name}{self._started}", str(root), image, folder)
        process = spawn(
            [
                *ENTER,
                *(*own, uid, gid or uid, *(word for pair in bound for word in pair), "--"),
                *(*service.get("entrypoint", ()), *(arguments or service["command"])),
            ],
            env=self.environment(name),
            log_path=self.folder / f"{name}{self._started}.log",
        )
        self._processes.append(process)
        return process

    def run(self, name: str, *arguments: str, patience_s: float) -> tuple[int, str]:
        """Run the service to its end; its exit status and output."""
        process = self.start(name, *arguments)
        return process.wait(patience_s), process.log_text()

    def is_healthy(self, name: str, process: ChildProcess) -> bool:
        """Whether the service's health check passes, run inside the container."""
        _, *test = self.services[name]["healthcheck"]["test"]
        inner = first_process(process)
        inside = ("nsenter", f"--target={inner}", "--mount", "--uts", "--pid", "--root", "--wd")
        privileges = ("setpriv", f"--reuid={self._uid}", f"--regid={self._uid}", "--clear-groups")
        command: Sequence[str] = [*inside, *privileges, *test]
        return (
            bool(inner)
            and not subprocess.run(
                command, env=self.environment(name), capture_output=True, timeout=30, check=False
            ).returncode
        )

    def filled(self, text: str) -> str:
        """Fill in variables as compose does, from `.env` alone."""

        def value(found: re.Match[str]) -> str:
            known, how, other = self._dotenv.get(found[1], ""), found[2], found[3]
            if how == ":?":
                assert known, other
            return (other if known else "") if how == ":+" else known or (other if how == ":-" else "")

        return _VARIABLE.sub(value, text)

    def _volume(self, volume: str | Mapping[str, Any]) -> tuple[str, str]:
        """The source and the target of a mount."""
        if not isinstance(volume, str):
            assert (volume["type"], volume["read_only"]) == ("bind", True)
            source, target = self.folder / self.filled(volume["source"]), volume["target"]
            assert source.exists(), f"the engine would not start: {source} does not exist"
            return str(source), target
        name, target = volume.split(":")[:2]
        source = self.folder / (name if name.startswith(".") else f"volume-{name}")
        if not source.exists():
            source.mkdir()
            os.chown(source, self._uid, self._uid)
            source.chmod(self._modes[target])
        return str(source.resolve()), target
