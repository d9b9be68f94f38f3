"""A file is written whole or not at all."""

from contextlib import suppress
from pathlib import Path

from worker.monitoring.files import replace_file


def test_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with replace_file(target, "w") as text:
        text.write("Amélie\n")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "Amélie\n"
    with replace_file(target, permissions=0o600) as binary:
        binary.write(b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_old_file_survives_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with suppress(ZeroDivisionError), replace_file(target, "w") as text:
        text.write("new")
        _ = 1 / 0
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_file_takes_the_place_of_a_link(tmp_path: Path) -> None:
    target, victim = tmp_path / "file", tmp_path / "victim"
    victim.write_text("precious")
    target.symlink_to(victim)
    with replace_file(target, "w") as text:
        text.write("new")
    assert victim.read_text() == "precious"
    assert not target.is_symlink()
