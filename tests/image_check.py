"""`make image-check`: build the Dockerfile and run each command of docker-compose.yml in the image.

buildah builds it, without an engine, on a base that debootstrap makes: Debian's own Python stands in for the
official image of Python. The services run as tests/support/containers.py runs them, against embedded servers.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import requests

from sandbox.embedded import free_port
from sandbox.processes import ChildProcess
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from tests.support.containers import ROOT, Project, can_run
from tests.support.stage import Stage, wait_for

BEGUN = time.monotonic()
TOOLS = ("buildah", "debootstrap", "apt-get")
RELEASE = "bookworm"
#: Megabytes that /opt/reelhaul may have.
LARGEST_MB = 130
#: Seconds that one step may take.
LONGEST_S = 240
#: Packages that no command of the fleet imports.
UNWANTED = ("pyarrow", "numpy", "pandas", "secantus", "opentelemetry")
CELLS = ("--genres", "Drama", "--years", "2018..2019")
USER = 1000


def main() -> None:
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        say(
            f"nothing is checked without {', '.join(missing)}: on Debian, apt-get install buildah debootstrap"
        )
        return
    if not can_run():
        say("nothing is checked: this needs root, and namespaces (unshare, nsenter, setpriv)")
        return
    with tempfile.TemporaryDirectory(prefix="reelhaul-image-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        image = built(folder)
        check_contents(image)
        with fleet(folder, image) as (stage, compose):
            check_services(stage, compose)
            say("image-check: all is well")


def built(folder: Path) -> Path:
    """The root of the image's files."""
    base, wheels = folder / "base", folder / "wheels"
    say(f"base: Debian {RELEASE} with its Python")
    site = run("apt-get", "indextargets", "--format", "$(SITE)").split()[0]
    run("debootstrap", "--variant=minbase", "--include=python3,python3-venv", RELEASE, str(base), site)
    (base / "usr/bin/python").symlink_to("python3")
    version = run(
        "chroot", str(base), "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"
    ).strip()

    say(f"wheels for Python {version}, by the hashes of requirements-service.lock")
    # The conditions are about the base's Python, which is not the one that downloads.
    lock = re.sub(r" ;[^\\\n]*", " ", (ROOT / "requirements-service.lock").read_text())
    (folder / "lock.txt").write_text(lock)
    download = ("download", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:")
    target = ("--python-version", version, "--dest", str(wheels), "--requirement", str(folder / "lock.txt"))
    run(sys.executable, "-m", "pip", *download, *target)
    (base / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")

    storage = ("--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--storage-driver", "vfs")

    def buildah(*arguments: str) -> str:
        return run("buildah", *storage, *arguments).strip()

    dockerfile = (ROOT / "Dockerfile").read_text()
    [official] = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))
    container = buildah("from", "scratch")
    run("cp", "--archive", f"{base}/.", buildah("mount", container))  # it copies devices as devices
    buildah("commit", "--quiet", "--rm", container, f"docker.io/library/{official}")
    say(f"image: the Dockerfile, with this base as {official}")
    options = (
        "--isolation",
        "chroot",
        "--pull-never",
        "--volume",
        f"{wheels}:/wheels:ro",
        "--tag",
        "reelhaul",
    )
    buildah("bud", *options, str(ROOT))
    return Path(buildah("mount", buildah("from", "--pull-never", "reelhaul")))


def check_contents(image: Path) -> None:
    """Its size, and that it holds nothing that no command of the fleet needs."""
    environment = image / "opt/reelhaul"
    megabytes = sum(path.lstat().st_size for path in environment.rglob("*")) / 1e6
    say(f"image: {megabytes:.0f} MB in /opt/reelhaul, at most {LARGEST_MB}")
    assert megabytes <= LARGEST_MB
    [packages] = environment.glob("lib/python3*/site-packages")
    assert [name for name in UNWANTED if (packages / name).exists()] == []


@contextmanager
def fleet(folder: Path, image: Path) -> Iterator[tuple[Stage, Project]]:
    """Embedded servers, and the project whose services run in the image."""
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        mongo = stack.enter_context(EmbeddedMongo())
        stage = stack.enter_context(closing(Stage(folder, f"{redis.url}", f"{mongo.url}/reelhaul")))
        stage.emulator("--movies", "2000")
        ours = {name: stage.environment[name] for name in ("TMDB_TOKEN", "TMDB_BASE_URL", "REELHAUL_RATE")}
        replaced = {
            "redis://redis:6379/0": stage.redis_url,
            "mongodb://mongodb:27017/reelhaul": stage.mongo_url,
        }
        project = folder / "project"
        (project / "exports").mkdir(parents=True)
        os.chown(project / "exports", USER, USER)
        compose = Project(project, ours | {"FLOWER_BASIC_AUTH": "reader:s3cret-enough"}, replaced, image)
        stack.callback(compose.stop)
        yield stage, compose


def check_services(stage: Stage, compose: Project) -> None:
    """Each service runs its command of docker-compose.yml, read-only and as its user."""
    port = free_port()
    *flower, _, address_port, database = compose.services["flower"]["command"]
    assert address_port.startswith("--port=")
    started = {
        "worker": compose.start("worker"),
        "beat": compose.start("beat"),
        "flower": compose.start("flower", *flower, "--address=127.0.0.1", f"--port={port}", database),
    }
    for name in ("worker", "beat"):
        wait(name, started, lambda name=name: compose.is_healthy(name, started[name]))  # type: ignore[misc]
    wait("flower", started, lambda: answers(port) == 401)
    for arguments in (
        ("--help",),
        ("doctor",),
        ("backfill", *CELLS, "--quiet"),
        ("status",),
        ("verify",),
        ("export", "movies.jsonl.gz"),
    ):
        status, output = compose.run("reelhaul", *arguments, patience_s=stage.patience_s)
        assert status == 0, output
        say(f"reelhaul {' '.join(arguments)}: exit code 0")
    exported = compose.folder / "exports" / "movies.jsonl.gz"
    assert exported.stat().st_uid == USER


def wait(name: str, started: dict[str, ChildProcess], is_so: Callable[[], bool]) -> None:
    wait_for(is_so, watching=[started[name]])
    say(f"{name}: runs")


def answers(port: int) -> int:
    """The status of Flower's answer without a password; 0 without an answer."""
    with suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code
    return 0


def run(*command: str) -> str:
    """The command's output; its errors end the check."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert ended.returncode == 0, f"{command}: {ended.stdout[-2000:]}{ended.stderr[-4000:]}"
    return ended.stdout


def say(line: str) -> None:
    sys.stdout.write(f"{time.monotonic() - BEGUN:4.0f} s  {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
