"""Where the originals of points are found again, and where they are not."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nearlight.client.sources import open_source
from nearlight.client.upgrades import Original, WantedOriginal, original_for_wire
from nearlight.client.upgrading import FolderOriginals, NoOriginals, ParquetOriginals, originals_in


def wanted(seq: int, point_id: Any, **payload: Any) -> WantedOriginal:
    return WantedOriginal(seq, point_id, payload)


def sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def test_a_folder_gives_what_was_indexed_and_nothing_from_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.png").write_bytes(b"a")
    (root / "b.png").write_bytes(b"b, changed")
    (root / "link.png").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(b"secret")
    os.mkfifo(root / "pipe.png")
    originals = FolderOriginals(root).of(
        [
            wanted(1, "a", path="deep/a.png", sha256=sha256(b"a")),
            wanted(2, "b", path="b.png", sha256=sha256(b"b")),
            wanted(3, "no hash", path="b.png"),
            wanted(4, "up", path="../secret"),
            wanted(5, "absolute", path=str(tmp_path / "secret")),
            wanted(6, "link", path="link.png"),
            wanted(7, "none"),
            wanted(8, "number", path=7),
            wanted(9, "gone", path="c.png"),
            wanted(10, "pipe", path="pipe.png"),
            wanted(11, "nul", path="a\0b"),
            wanted(12, "inside", path=str(root / "deep" / "a.png")),
        ]
    )
    found = {one.seq: one for one in originals}
    assert list(found) == list(range(1, 13))
    assert {seq: one.image for seq, one in found.items() if one.image} == {
        1: b"a",
        3: b"b, changed",
        12: b"a",
    }
    assert "has changed since it was indexed" in found[2].missing
    assert all("leads out of" in found[seq].missing for seq in (4, 5, 6))
    assert all("no path" in found[seq].missing for seq in (7, 8))
    assert found[9].missing == "No such file or directory"
    assert found[10].missing == "not a regular file"
    assert "null" in found[11].missing


def test_parquet_gives_rows_by_their_id(tmp_path: Path) -> None:
    table = pa.table({"image": [b"a", b"b", None], "filename": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "t.parquet")
    originals = originals_in(open_source(str(tmp_path / "t.parquet"), "image", None))
    assert isinstance(originals, ParquetOriginals)
    asked = [
        wanted(4, "z"),
        wanted(3, "y", sha256=sha256(b"other")),
        wanted(2, "nobody"),
        wanted(1, "x", sha256=sha256(b"a")),
    ]
    found = {one.seq: one for one in originals.of(iter(asked))}
    assert found[1].image == b"a"
    assert "has changed" in found[3].missing
    assert found[4].missing == "the row has no image"
    assert found[2].missing == "no row has its id"
    by_number = originals_in(open_source(str(tmp_path / "t.parquet"), "image", ""))
    assert [one.image for one in by_number.of([wanted(1, 1)])] == [b"b"]


def test_nowhere_is_said(tmp_path: Path) -> None:
    assert [one.missing for one in NoOriginals().of([wanted(1, "a")])] == ["its original is kept nowhere"]
    assert isinstance(originals_in(open_source(str(tmp_path), "image", None)), FolderOriginals)


@pytest.mark.parametrize("reason", ["é" * 600, "\udcff broken"])
def test_a_reason_fits_the_wire(reason: str) -> None:
    message = original_for_wire(Original(1, None, reason))
    assert message.WhichOneof("source") == "missing"
    assert 0 < len(message.missing.encode()) <= 1000
