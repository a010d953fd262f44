"""What a SOURCE on the command line means: a table of encoded images with captions or class names."""

import csv
import glob
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from nearlight.training.errors import DataError
from nearlight.training.shards import IMAGE_SUFFIXES, ShardImages, expand, index_shards


class Images(Protocol):
    """Encoded images by row number."""

    def __len__(self) -> int:
        """The number of rows."""

    def read(self, row: int) -> bytes:
        """Returns the encoded image of a row (0-based)."""


@dataclass(frozen=True, slots=True)
class Source:
    """Images with what is said of them: captions, or a class name for each row, or nothing."""

    name: str
    weight: float
    images: Images
    captions: Sequence[Sequence[str]] | None
    label_names: Sequence[str] | None
    notes: tuple[str, ...] = ()
    """What was found wrong and left out when it was opened, a line each."""

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.images)

    @property
    def classes(self) -> list[str]:
        """The distinct class names in order of first appearance; empty for a captioned source."""
        return list(dict.fromkeys(self.label_names or ()))


def open_source(spec: str, words: bool = True) -> Source:
    """Returns the source that `PATH[@weight]` names.

    PATH is a parquet file or glob with columns `image` and `captions` (list of strings) or `label_name`,
    or WebDataset-format tars (a glob, or `part-{000..012}.tar`; see `shards`), or a folder of images with
    `captions.csv`, `captions.jsonl`, `metadata.csv` or `metadata.jsonl` in it (columns: file | filename |
    image | path, and caption | captions | text, or label_name), or a folder with one folder of images for
    each class.

    Args:
        spec: where it is.
        words: whether captions or class names are needed; if not, plain images will do.

    Raises:
        DataError: nothing there, a missing column, no rows, a weight that is not a positive number.
    """
    path, weight = _split_weight(spec)
    if Path(path).is_dir():
        return _open_folder(Path(path), weight, words)
    if path.startswith("pipe:") or "://" in path:
        raise DataError(f"{path!r}: sources are files and folders; nothing is downloaded or run")
    files = [file for part in expand(path) for file in sorted(glob.glob(part))]
    if path.endswith(".tar"):
        missing = next((part for part in expand(path) if not glob.glob(part)), None)
        if missing is not None:
            raise DataError(f"{missing!r}: no such file, and nothing matches it as a glob")
        return _open_shards(path, files, weight, words)
    if not files:
        raise DataError(f"{path!r}: no such file, and nothing matches it as a glob")
    return _open_parquet(path, files, weight, words)


def _split_weight(spec: str) -> tuple[str, float]:
    path, at, tail = spec.rpartition("@")
    if not at:
        return spec, 1.0
    try:
        weight = float(tail)
    except ValueError:
        return spec, 1.0  # an @ inside the path
    if not 0 < weight < float("inf"):
        raise DataError(f"{spec!r}: the weight is {tail}; it must be a positive number")
    return path, weight


class _ParquetImages:
    """Encoded images in a column held as Arrow memory (decompressed, still JPEG or PNG)."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def read(self, row: int) -> bytes:
        value = self._column[row].as_py()
        if isinstance(value, Mapping):  # the layout of the `datasets` library: {bytes, path}
            value = value.get("bytes")
        return value or b""


class _FolderImages:
    """Encoded images in files, read when asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def read(self, row: int) -> bytes:
        return self._files[row].read_bytes()


def _open_parquet(path: str, files: Sequence[str], weight: float, words: bool) -> Source:
    try:
        names = pq.read_schema(files[0]).names
        wanted = [c for c in ("image", "captions", "caption", "label_name") if c in names]
        if "image" not in names:
            raise DataError(f"{path!r} has no column `image`; its columns are {', '.join(names)}")
        if words and len(wanted) < 2:
            raise DataError(
                f"{path!r} needs a column `captions` or `label_name`; its columns are {', '.join(names)}"
            )
        table = pa.concat_tables([pq.read_table(f, columns=wanted) for f in files])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path!r} as parquet: {error}") from None
    if not table.num_rows:
        raise DataError(f"{path!r} holds no rows")
    captions, labels = None, None
    notes: tuple[str, ...] = ()
    if "captions" in wanted or "caption" in wanted:
        column = table["captions" if "captions" in wanted else "caption"].to_pylist()
        captions = [[c] if isinstance(c, str) else list(c or ()) for c in column]
    elif "label_name" in wanted:
        labels, notes = _labels(table["label_name"].to_pylist(), path, words)
    images = _ParquetImages(table["image"])
    return _checked(Source(Path(path).stem, weight, images, captions, labels, notes), path)


def _labels(names: Sequence[Any], path: str, words: bool) -> tuple[list[str] | None, tuple[str, ...]]:
    """Returns the class names of all rows, or None with a note where some have none and none is needed."""
    missing = [row for row, name in enumerate(names) if name in (None, "")]
    if not missing:
        return [str(name) for name in names], ()
    reason = f"row {missing[0]} has no label_name ({len(missing)} of {len(names)} rows have none)"
    if words:
        raise DataError(f"{path!r}: {reason}")
    return None, (f"{reason}; class names are not used",)


def _open_shards(path: str, files: Sequence[str], weight: float, words: bool) -> Source:
    """Returns the samples of tars: with captions where any has one, else with class names where all have."""
    shards = [Path(file) for file in files]
    index = index_shards(shards)
    kept, notes = range(len(index.places)), list(index.notes)
    captioned = [i for i in kept if index.captions[i]]
    named = [i for i in kept if index.labels[i] is not None]
    if words and not (captioned or named):
        raise DataError(f"{path!r} holds no captions (.txt, .json) and no class names (.cls, .json)")
    chosen = captioned or (named if words or len(named) == len(kept) else list(kept))
    if len(chosen) < len(kept):
        what = "a caption" if captioned else "a class name"
        notes.append(f"{len(kept) - len(chosen)} samples have not {what} and are left out")
    images = ShardImages(shards, [index.places[i] for i in chosen])
    captions = [index.captions[i] for i in chosen] if captioned else None
    labels = None
    if not captioned and len(named) >= len(chosen):
        labels = [str(index.labels[i]) for i in chosen]
    name = re.split(r"[.{*?\[]", Path(path).name)[0].rstrip("-_") or "shards"
    return _checked(Source(name, weight, images, captions, labels, tuple(notes)), path)


def _open_plain_folder(folder: Path, weight: float, words: bool) -> Source:
    """Returns the images below a folder; their folders are their classes if none lies beside the folders."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    labels = (
        [f.relative_to(folder).parts[0] for f in files] if all(f.parent != folder for f in files) else None
    )
    if not files or (words and labels is None):
        raise DataError(
            f"{folder} needs a captions.csv, captions.jsonl, metadata.csv or metadata.jsonl in it, or images "
            "in one folder for each class"
        )
    return Source(folder.name, weight, _FolderImages(files), None, labels)


def _open_folder(folder: Path, weight: float, words: bool) -> Source:
    listing = next(
        (
            folder / n
            for n in ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
            if (folder / n).is_file()
        ),
        None,
    )
    if listing is None:
        return _open_plain_folder(folder, weight, words)
    rows = list(_rows(listing))
    files: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        file = _first(row, ("file", "filename", "file_name", "image", "path"))
        said = _first(row, ("captions", "caption", "text"))
        if file is None or (said is None and "label_name" not in row):
            raise DataError(
                f"{listing}, row {number}: needs a file and a caption (or label_name); it has {sorted(row)}"
            )
        if not (folder / file).is_file():
            raise DataError(f"{listing}, row {number}: there is no file {file!r} in {folder}")
        if said is None:
            if row["label_name"] in (None, ""):
                raise DataError(f"{listing}, row {number}: {file!r} has no label_name")
            labels[file] = str(row["label_name"])
        files.setdefault(file, []).extend([] if said is None else ([said] if isinstance(said, str) else said))
    if labels and len(labels) != len(files):
        raise DataError(f"{listing} mixes rows with captions and rows with label_name")
    images = _FolderImages([folder / f for f in files])
    if labels:
        return _checked(Source(folder.name, weight, images, None, [labels[f] for f in files]), str(folder))
    return _checked(Source(folder.name, weight, images, list(files.values()), None), str(folder))


def _rows(listing: Path) -> Iterator[dict[str, Any]]:
    with listing.open(encoding="utf-8", newline="") as lines:
        if listing.suffix == ".csv":
            yield from csv.DictReader(lines)
            return
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{listing}, line {number}: not JSON: {error}") from None
                if not isinstance(row, dict):
                    raise DataError(f"{listing}, line {number}: must be an object, is {line.strip()[:60]!r}")
                yield row


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[n] for n in names if row.get(n) not in (None, "")), None)


def _checked(source: Source, path: str) -> Source:
    if not len(source):
        raise DataError(f"{path!r} holds no rows")
    if source.captions is not None:
        empty = next((i for i, said in enumerate(source.captions) if not any(s.strip() for s in said)), None)
        if empty is not None:
            raise DataError(f"{path!r}, row {empty}: has no caption")
    return source
