"""What a source finds, under which ids, with which payload."""

import hashlib
import os
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nearlight.client.sources import ImageFolder, ParquetFiles, SourceError, open_source


def write(path: Path, content: bytes = b"image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_folder_is_read_deep_and_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a/b/c.webp", "d.gif", "e.bmp", "f.tiff", "g.tif", "é ü.jpeg"):
        write(tmp_path / name)
    for name in ("notes.txt", ".hidden.jpg", ".cache/x.jpg", "jpg"):
        write(tmp_path / name)
    found = ImageFolder.scan(tmp_path)
    assert [one.id for one in found] == sorted(
        ["b.JPG", "a/z.png", "a/b/c.webp", "d.gif", "e.bmp", "f.tiff", "g.tif", "é ü.jpeg"]
    )
    assert len(found) == 8


def test_payload_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "b.jpg", b"the image")
    (candidate,) = ImageFolder.scan(tmp_path)
    image, payload = candidate.read()
    assert image == b"the image"
    assert payload["path"] == candidate.id == "a/b.jpg"
    assert payload["size"] == 9
    assert payload["sha256"] == hashlib.sha256(b"the image").hexdigest()
    assert payload["mtime_ns"] == path.stat().st_mtime_ns
    assert datetime.fromisoformat(payload["mtime"]).timestamp() == int(path.stat().st_mtime)


def test_a_file_is_unchanged_by_size_and_time(tmp_path: Path) -> None:
    path = write(tmp_path / "b.jpg", b"one")
    (candidate,) = ImageFolder.scan(tmp_path)
    payload = candidate.read()[1]
    assert candidate.is_unchanged(payload)
    write(path, b"longer")
    assert not candidate.is_unchanged(payload)
    write(path, b"two")
    os.utime(path, ns=(payload["mtime_ns"] + 1, payload["mtime_ns"] + 1))
    assert not candidate.is_unchanged(payload)
    path.unlink()
    assert not candidate.is_unchanged(payload)
    with pytest.raises(FileNotFoundError):
        candidate.read()


def write_parquet(path: Path, names: list[str], **columns: object) -> Path:
    images = [f"image {name}".encode() for name in names]
    pq.write_table(pa.table({"image": images, "filename": names, **columns}), path)
    return path


def test_parquet_ids_are_filenames_and_payload_the_other_columns(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "a.parquet",
        ["x", "y"],
        label=[2**60, 1],
        label_name=["cat", None],
        score=[0.5, float("nan")],
        captions=[["one", "two"], []],
        blob=[b"x", b"y"],
        day=[datetime(2026, 1, 2, 3, 4), None],
    )
    rows = list(ParquetFiles.open((file,), "image", None))
    assert [row.id for row in rows] == ["x", "y"]
    image, payload = rows[0].read()
    assert image == b"image x"
    assert payload == {
        "filename": "x", "label": 2**60, "label_name": "cat", "score": 0.5, "captions": ["one", "two"],
        "day": "2026-01-02T03:04:00", "size": 7, "sha256": hashlib.sha256(b"image x").hexdigest(),
    }  # fmt: skip
    assert rows[0].is_unchanged(payload)
    assert not rows[0].is_unchanged({**payload, "label_name": "dog"})


def test_parquet_rows_are_numbered_over_all_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "1.parquet", ["x", "y"])
    write_parquet(tmp_path / "2.parquet", ["x", "z"])  # x twice: no id
    found = open_source(str(tmp_path / "*.parquet"), "image", None)
    assert [one.id for one in found] == [0, 1, 2, 3]
    assert len(found) == 4


def test_parquet_images_in_structs(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": b"i", "path": "p"}, None]}), tmp_path / "a.parquet")
    one, none = open_source(str(tmp_path / "a.parquet"), "image", None)
    assert one.read()[0] == b"i"
    with pytest.raises(OSError, match="no image"):
        none.read()


def test_sources_that_cannot_be(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    write(tmp_path / "broken.parquet")
    write_parquet(tmp_path / "twice.parquet", ["x", "x"])
    for source, column, said in [
        ("nowhere", None, "no folder or file"),
        ("a.csv", None, "neither a folder nor a .parquet"),
        ("broken.parquet", None, "cannot read parquet"),
        ("twice.parquet", "filename", "'x' is there twice"),
        ("twice.parquet", "id", "no column 'id'; it has image, filename"),
    ]:
        with pytest.raises(SourceError, match=said):
            open_source(str(tmp_path / source), "image", column)


def test_real_parquet_of_photographs(data_folder: Path) -> None:
    found = open_source(str(data_folder / "flickr8k-val.parquet"), "image", None)
    first = next(iter(found))
    image, payload = first.read()
    assert image.startswith(b"\xff\xd8")
    assert payload["filename"] == first.id
    assert len(payload["captions"]) == 5
    assert len(found) == 1000
