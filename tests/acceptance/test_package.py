"""The wheel and the sdist: built from the tree, installed into an empty environment, and run there."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.stage import OURS

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("worker", "producer", "reelhaul", "sandbox")
#: What hatchling reads of the tree.
SOURCES = (*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that has to succeed; it sees neither this tree nor our settings."""
    hidden = (*OURS, "PYTHONPATH")
    inherited: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if not name.startswith(hidden)
    }
    ended = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("package")
    tree = folder / "tree"
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy(source, tree / name)
    run(sys.executable, "-m", "hatchling", "build", "-d", folder / "dist", cwd=tree)
    return folder / "dist"


def environment(folder: Path) -> Path:
    """A new environment's Python, which finds the packages of this one, though not ours."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    [packages] = (folder / "lib").glob("python*/site-packages")
    # Python does not read the .pth files of such a path: an editable install of ours stays out.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    return folder / "bin" / "python"


def install(python: Path, package: Path) -> None:
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, package, cwd=python.parent)


def files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("RECORD")}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    tree = {
        str(path.relative_to(ROOT))
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in files(wheel) if ".dist-info/" not in name} == tree


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [tree] = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist", cwd=tree)
    [again] = (tmp_path / "dist").glob("*.whl")
    assert files(again) == files(wheel)


@pytest.mark.parametrize("suffix", [".whl", ".tar.gz"])
def test_it_installs_and_runs_from_there(built: Path, tmp_path: Path, suffix: str) -> None:
    [package] = built.glob(f"*{suffix}")
    python = environment(tmp_path / "environment")
    install(python, package)
    where = run(
        python, "-c", "import worker, reelhaul; print(worker.__file__, reelhaul.__file__)", cwd=tmp_path
    )
    assert all(path.startswith(str(tmp_path)) for path in where.split())
    reelhaul = python.parent / "reelhaul"
    assert run(reelhaul, "--version", cwd=tmp_path) == f"reelhaul {version('reelhaul')}\n"


def test_the_demo_runs_from_the_wheel(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    python = environment(tmp_path / "environment")
    install(python, wheel)
    printed = run(python.parent / "reelhaul", "demo", "--rate", "300", "--json", cwd=tmp_path)
    summary = json.loads(printed.splitlines()[-1])
    assert summary["missing"] == 0
    assert summary["movies"] > 7_000
