"""The run folder: rejected unless this user alone can write to it."""

import os
import stat
from pathlib import Path

import pytest

from worker.errors import UsageError
from worker.monitoring.run_folder import default_run_folder, fault_of, open_run_folder

STRANGER = 34_567


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it another user's: as root by chown, else by pretending to be another user."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)


def test_folder_is_private(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "deep" / "run")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert open_run_folder(folder) == folder


def test_folder_of_another_user_is_invalid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_run_folder(tmp_path / "run")
    give_away(folder, monkeypatch)
    with pytest.raises(
        UsageError,
        match=rf"\Arun folder {folder}: belongs to uid \d+; remove it, or set REELHAUL_RUN_FOLDER .*\Z",
    ):
        open_run_folder(folder)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_folder_that_others_may_write_to_is_invalid(tmp_path: Path, mode: int) -> None:
    folder = open_run_folder(tmp_path / "run")
    folder.chmod(mode)
    with pytest.raises(UsageError, match=rf"{folder}: others may write to it .*chmod 700"):
        open_run_folder(folder)


def test_link_is_invalid(tmp_path: Path) -> None:
    own = open_run_folder(tmp_path / "own")
    for target in (own, tmp_path / "nowhere"):
        link = tmp_path / f"link-{target.name}"
        link.symlink_to(target)
        with pytest.raises(UsageError, match=f"{link}: is a symbolic link"):
            open_run_folder(link)
    assert not (tmp_path / "nowhere").exists()


def test_folder_that_others_may_replace_is_invalid(tmp_path: Path) -> None:
    open_run_folder(tmp_path / "open" / "run")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(
        UsageError, match=f"others may replace it, because they may write to {tmp_path / 'open'}"
    ):
        open_run_folder(tmp_path / "open" / "run")
    (tmp_path / "open").chmod(0o1777)  # as /tmp
    open_run_folder(tmp_path / "open" / "run")


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, reason in (
        (tmp_path / "file", "is no folder"),
        (tmp_path / "file" / "run", "Not a directory"),
    ):
        with pytest.raises(UsageError, match=rf"\Arun folder {folder}: .*{reason}"):
            open_run_folder(folder)


def test_fault_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "flower.db"
    file.write_text("")
    file.chmod(0o644)
    assert fault_of(file) == ""
    file.chmod(0o664)
    assert "others may write to it" in fault_of(file)
    file.chmod(0o600)
    give_away(file, monkeypatch)
    assert "belongs to uid" in fault_of(file)


def test_default_is_the_users_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert default_run_folder() == runtime / "reelhaul"
    give_away(runtime, monkeypatch)  # XDG_RUNTIME_DIR after `su` or `sudo`
    assert default_run_folder() == tmp_path / f"reelhaul-{os.geteuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert default_run_folder() == tmp_path / f"reelhaul-{os.geteuid()}"
