"""Only image files are read, whatever else bears such a name."""

import os
from pathlib import Path

import pytest

from nearlight.client.files import MAX_IMAGE_FILE_BYTES, read_image_file


def test_a_file_with_its_times(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"image")
    image, found = read_image_file(path)
    assert (image, found.st_size, found.st_mtime_ns) == (b"image", 5, path.stat().st_mtime_ns)


def test_a_link_is_the_file_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"image")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert read_image_file(tmp_path / "link.jpg")[0] == b"image"


@pytest.mark.timeout(20)  # opened like a file, a pipe nobody writes to blocks for ever
def test_a_named_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        read_image_file(tmp_path / "pipe.jpg")


def test_devices_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        read_image_file(tmp_path / "endless.jpg")
    with pytest.raises(IsADirectoryError):
        read_image_file(tmp_path)


def test_a_file_beyond_all_measure_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "volume.tiff"
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_FILE_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(
        OSError, match=f"{MAX_IMAGE_FILE_BYTES + 1} bytes; the limit is {MAX_IMAGE_FILE_BYTES}"
    ):
        read_image_file(path)
