import os
from pathlib import Path

from nearlight.server.security.watched import WatchedFiles


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_change_is_told_once_and_not_looked_for_too_often(tmp_path: Path) -> None:
    file, gone, clock = tmp_path / "a", tmp_path / "b", Clock()
    file.write_text("one")
    watched = WatchedFiles([file, gone], clock=clock)
    clock.now = 2
    assert not watched.have_changed()
    file.write_text("longer")
    assert not watched.have_changed()  # it looked at 2 already
    clock.now = 3
    assert watched.have_changed()
    clock.now = 4
    assert not watched.have_changed()
    gone.write_text("here")
    clock.now = 5
    assert watched.have_changed()
    gone.unlink()
    clock.now = 6
    assert watched.have_changed()


def test_another_file_of_the_same_size_and_time_is_a_change(tmp_path: Path) -> None:
    file, other, clock = tmp_path / "a", tmp_path / "b", Clock()
    file.write_text("one")
    other.write_text("two")
    before = os.stat(file)
    watched = WatchedFiles([file], clock=clock)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    clock.now = 2
    assert watched.have_changed()


def test_looking_again_reports_a_change_that_was_not_taken(tmp_path: Path) -> None:
    file, clock = tmp_path / "a", Clock()
    file.write_text("one")
    watched = WatchedFiles([file], clock=clock)
    watched.look_again()
    clock.now = 1
    assert watched.have_changed()
