import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nearlight.training.errors import DataError
from nearlight.training.sources import open_source


def test_parquet_with_captions_and_weight(captioned: Path) -> None:
    source = open_source(f"{captioned}@2.5")
    assert (source.name, source.weight, len(source)) == ("captioned", 2.5, 64)
    assert source.captions is not None
    assert source.captions[1] == ["a green square number 1", "picture 1 is green ."]
    assert source.images.read(0)[:2] == b"\xff\xd8"


def test_parquet_with_class_names(labelled: Path) -> None:
    source = open_source(str(labelled))
    assert source.classes == ["red", "green", "blue", "yellow"]
    assert source.captions is None


def test_a_glob_joins_files_in_order(tmp_path: Path) -> None:
    for part in (1, 0):
        pq.write_table(
            pa.table({"image": [bytes([part])], "captions": [[f"{part}"]]}), tmp_path / f"x-{part}.parquet"
        )
    source = open_source(f"{tmp_path}/x-*.parquet@1")
    assert source.captions == [["0"], ["1"]]
    assert source.images.read(1) == b"\x01"


def test_images_as_records_of_bytes(tmp_path: Path) -> None:
    image = [{"bytes": b"abc", "path": "x.jpg"}]
    pq.write_table(pa.table({"image": image, "label_name": ["x"]}), tmp_path / "x.parquet")
    assert open_source(str(tmp_path / "x.parquet")).images.read(0) == b"abc"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_folder_with_captions(tmp_path: Path, kind: str) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    rows = [("a.jpg", "first, of a"), ("b.jpg", "of b"), ("a.jpg", "second of a")]
    if kind == "csv":
        lines = ["filename,caption"] + [f'{f},"{c}"' for f, c in rows]
    else:
        lines = [json.dumps({"image": f, "caption": c}) for f, c in rows]
    (tmp_path / f"captions.{kind}").write_text("\n".join(lines))
    source = open_source(str(tmp_path))
    assert source.captions == [["first, of a", "second of a"], ["of b"]]
    assert source.images.read(1) == b"b.jpg"


def test_a_path_with_an_at_sign_in_it(tmp_path: Path) -> None:
    path = tmp_path / "me@home.parquet"
    pq.write_table(pa.table({"image": [b"x"], "label_name": ["x"]}), path)
    assert len(open_source(str(path))) == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture": [b"x"], "captions": [["x"]]}, "no column `image`"),
        ({"image": [b"x"], "title": ["x"]}, "`captions` or `label_name`"),
        ({"image": [b"x", b"y"], "captions": [["x"], []]}, "row 1: has no caption"),
        (
            {"image": [b"x", b"y", b"z"], "label_name": ["x", None, ""]},
            r"row 1 has no label_name \(2 of 3 rows",
        ),
        ({"image": pa.array([], pa.binary()), "label_name": pa.array([], pa.string())}, "no rows"),
    ],
)
def test_unusable_parquet_is_named(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=message) as caught:
        open_source(str(path))
    assert "bad.parquet" in str(caught.value)


def test_labels_that_are_missing_matter_only_where_they_are_needed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x", b"y"], "label_name": ["x", None]}), tmp_path / "x.parquet")
    source = open_source(str(tmp_path / "x.parquet"), words=False)
    assert source.label_names is None
    assert source.notes == ("row 1 has no label_name (1 of 2 rows have none); class names are not used",)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_source(str(tmp_path / "none-*.parquet"))
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="cannot read"):
        open_source(str(tmp_path / "text.parquet"))
    with pytest.raises(DataError, match="needs a captions.csv"):
        open_source(str(tmp_path))
    (tmp_path / "captions.csv").write_text("file,caption\nghost.jpg,boo\n")
    with pytest.raises(DataError, match=r"row 1: there is no file 'ghost.jpg'"):
        open_source(str(tmp_path))
    with pytest.raises(DataError, match="positive number"):
        open_source("x.parquet@-1")
