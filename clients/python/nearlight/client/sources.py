"""Images to index: a folder, or parquet files. A source says cheaply what there is, and reads it late."""

from __future__ import annotations

import glob
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol

from nearlight.client.files import read_image_file
from nearlight.client.values import PointId

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


class SourceError(ValueError):
    """The source cannot be read, or not as it was asked for."""


class Candidate(Protocol):
    """An image that may have to be indexed."""

    @property
    def id(self) -> PointId:
        """Its point id."""
        ...

    def is_unchanged(self, payload: dict[str, Any]) -> bool:
        """Returns whether it surely is what was indexed with this payload; never reads the image."""
        ...

    def read(self) -> tuple[bytes, dict[str, Any]]:
        """Returns its bytes and its payload; raises OSError where it cannot be read."""
        ...


class Source(Protocol):
    """Images in a fixed order."""

    def __len__(self) -> int:
        """Returns how many there are."""
        ...

    def __iter__(self) -> Iterator[Candidate]:
        """Yields them."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a folder; its id is the path relative to the folder, with slashes."""

    root: Path
    id: str

    def is_unchanged(self, payload: dict[str, Any]) -> bool:
        """Returns whether size and time of change are those that were indexed."""
        try:
            stat = (self.root / self.id).stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (payload.get("size"), payload.get("mtime_ns"))

    def read(self) -> tuple[bytes, dict[str, Any]]:
        """Returns the file's bytes and {path, size, sha256, mtime, mtime_ns}."""
        image, stat = read_image_file(self.root / self.id)
        changed = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="seconds")
        payload = {"path": self.id, **fingerprint(image), "mtime": changed, "mtime_ns": stat.st_mtime_ns}
        return image, payload


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The images below a folder, by suffix, in order of their paths, without hidden files and folders."""

    root: Path
    paths: tuple[str, ...]

    @classmethod
    def scan(cls, root: Path) -> ImageFolder:
        """Lists the images of a folder, deep; links to folders are not followed."""
        found: list[str] = []
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            relative = Path(folder).relative_to(root)
            found += [
                (relative / name).as_posix()
                for name in files
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
            ]
        return cls(root, tuple(sorted(found)))

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[ImageFile]:
        return (ImageFile(self.root, path) for path in self.paths)


@dataclass(frozen=True, slots=True)
class ParquetRow:
    """A row of a parquet file."""

    id: PointId
    image: bytes | None
    columns: dict[str, Any]

    def is_unchanged(self, payload: dict[str, Any]) -> bool:
        """Returns whether image and columns are those that were indexed; the bytes are at hand here."""
        return self.image is not None and self.read()[1] == payload

    def read(self) -> tuple[bytes, dict[str, Any]]:
        """Returns the image's bytes and the other columns with {size, sha256}."""
        if self.image is None:
            raise OSError("the row has no image")
        return self.image, {**self.columns, **fingerprint(self.image)}


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """The rows of parquet files.

    Attributes:
        files: read one after another, a few rows at a time.
        image_column: of encoded bytes, or of structs that hold them under "bytes".
        id_column: of unique strings or integers; None: ids are row numbers over all files, from 0.
        rows: how many there are.
    """

    files: tuple[Path, ...]
    image_column: str
    id_column: str | None
    rows: int

    @classmethod
    def open(cls, files: tuple[Path, ...], image_column: str, id_column: str | None) -> ParquetFiles:
        """Looks at the files; raises SourceError where a column is missing or the ids are not unique.

        Args:
            files: at least one.
            image_column: its name.
            id_column: its name; "" for row numbers; None for "filename" where that is there and unique.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            opened = [pq.ParquetFile(file) for file in files]
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"cannot read parquet: {error}") from None
        for file, parquet in zip(files, opened, strict=True):
            names = parquet.schema_arrow.names
            for wanted in (image_column, *([id_column] if id_column else [])):
                if wanted not in names:
                    raise SourceError(f"{file} has no column {wanted!r}; it has {', '.join(names)}")
        guessed = id_column is None and all("filename" in one.schema_arrow.names for one in opened)
        column = "filename" if guessed else id_column or None
        if column is not None:
            repeated = _first_repeated(opened, column)
            if repeated is not None and not guessed:
                raise SourceError(f"column {column!r} is no id: {repeated!r} is there twice")
            column = None if repeated is not None else column
        return cls(files, image_column, column, sum(one.metadata.num_rows for one in opened))

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[ParquetRow]:
        import pyarrow.parquet as pq

        number = 0
        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    yield self._row(row, number)
                    number += 1

    def _row(self, row: dict[str, Any], number: int) -> ParquetRow:
        image = row.pop(self.image_column)
        if isinstance(image, dict):
            image = image.get("bytes")
        point_id = number if self.id_column is None else row[self.id_column]
        columns = {name: plain for name, value in row.items() if (plain := as_json(value)) is not None}
        return ParquetRow(point_id, image, columns)


def _first_repeated(opened: list[Any], column: str) -> Any:
    """Returns a value that is in the column twice, or None."""
    seen: set[Any] = set()
    for parquet in opened:
        for value in parquet.read(columns=[column])[column].to_pylist():
            if value in seen:
                return value
            seen.add(value)
    return None


def open_source(source: str, image_column: str, id_column: str | None) -> Source:
    """Returns the images of a folder, of a parquet file, or of all parquet files of a glob pattern.

    Raises:
        SourceError: there is no such folder or file, or it is of another kind.
    """
    path = Path(source)
    if path.is_dir():
        return ImageFolder.scan(path)
    files = (
        (path,) if path.is_file() else tuple(Path(one) for one in sorted(glob.glob(source, recursive=True)))
    )
    if not files:
        raise SourceError(f"there is no folder or file {source!r}")
    wrong = next((file for file in files if file.suffix.lower() != ".parquet"), None)
    if wrong is not None:
        raise SourceError(f"{str(wrong)!r} is neither a folder nor a .parquet file")
    return ParquetFiles.open(files, image_column, id_column)


def fingerprint(image: bytes) -> dict[str, Any]:
    """Returns {size, sha256} of an image's bytes."""
    return {"size": len(image), "sha256": hashlib.sha256(image).hexdigest()}


def as_json(value: Any) -> Any:
    """Returns a parquet value as JSON has it; None for what JSON has not (bytes, structs, NaN)."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, list):
        items = [as_json(item) for item in value]
        return None if None in items else items
    return None
