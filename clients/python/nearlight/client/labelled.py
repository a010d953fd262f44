"""Labelled images: parquet files with a column of class names, or a folder with a folder for each class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nearlight.client.sources import Candidate, ImageFolder, ParquetFiles, Source, SourceError, open_source


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images in a fixed order, each with the name of its class.

    Attributes:
        source: the images.
        classes: as many.
    """

    source: Source
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[tuple[Candidate, str]]:
        return zip(self.source, self.classes, strict=True)


def open_labelled(source: str, image_column: str, label_column: str) -> LabelledImages:
    """Opens a source and reads the classes of all its images; the images are read late.

    Raises:
        SourceError: there is no such source, or an image without a class in it.
    """
    images = open_source(source, image_column, "")
    if isinstance(images, ImageFolder):
        return LabelledImages(images, tuple(map(_folder_of, images.paths)))
    if isinstance(images, ParquetFiles):
        return LabelledImages(images, tuple(_column(images, label_column)))
    raise SourceError(f"images of {source!r} have no classes; give a folder of folders or a parquet file")


def _folder_of(path: str) -> str:
    folder, _, rest = path.partition("/")
    if not rest:
        raise SourceError(f"image {path!r} lies in no folder; each class has a folder of its name")
    return folder


def _column(images: ParquetFiles, name: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    for file in images.files:
        names = pq.read_schema(file).names
        if name not in names:
            raise SourceError(f"{file} has no column {name!r}; it has {', '.join(names)}")
        values: list[Any] = pq.read_table(file, columns=[name])[name].to_pylist()
        for row, value in enumerate(values):
            if value is None:
                raise SourceError(f"row {row} of {file} has no {name}")
            yield str(value)
