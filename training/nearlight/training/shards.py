"""WebDataset-format tars as a source: samples read by their place, so that any order and restart is exact.

A sample is a run of members that share all but what follows the first dot of the file name: `7.jpg` with
`7.txt` (a caption), `7.cls` (a class name) or `7.json` (`caption`, `captions`, `text` or `label_name`). The
headers are read once; images are read where they lie when they are needed. Nothing is ever handed to a shell.
"""

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from nearlight.training.errors import DataError

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(path: str) -> list[str]:
    """Returns the paths that `part-{000..012}.tar` stands for; others stand for themselves.

    Raises:
        DataError: a number after the dots that is less than the one before.
    """
    found = _BRACES.search(path)
    if found is None:
        return [path]
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise DataError(f"{path!r}: {found[0]} ends before it starts")
    numbers = (str(n).zfill(len(found[1])) for n in range(first, last + 1))
    return [p for n in numbers for p in expand(path[: found.start()] + n + path[found.end() :])]


class ShardImages:
    """Encoded images that lie in tar files, by their place there."""

    def __init__(self, files: Sequence[Path], places: Sequence[tuple[int, int, int]]) -> None:
        """Takes what `index_shards` found; (file number, offset, size) of each image."""
        self._files = list(files)
        self._places = np.array(places, np.int64).reshape(-1, 3)  # (N, 3)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._places)

    def read(self, row: int) -> bytes:
        """Returns the encoded image of a row; may be called by several threads at once."""
        number, offset, size = self._places[row].tolist()
        with self._files[number].open("rb") as file:
            file.seek(offset)
            data: bytes = file.read(size)
            return data


@dataclass(slots=True)
class Index:
    """What is in a list of tars, sample by sample."""

    places: list[tuple[int, int, int]] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)
    """Empty where a sample has none."""
    labels: list[str | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""


def index_shards(files: Sequence[Path]) -> Index:
    """Returns the samples of tars, in the order of files and members.

    Samples without an image, and what follows a cut or a damaged header, are left out and noted.

    Raises:
        DataError: a file that is no plain tar (compressed ones cannot be read by place).
    """
    index = Index()
    for number, path in enumerate(files):
        before, bare = len(index.places), 0
        members, broken = _members(path)
        with path.open("rb") as file:
            for _, sample in groupby(members, key=lambda m: m.key):
                if not _add(index, number, list(sample), file):
                    bare += 1
        if bare:
            index.notes.append(f"{path.name}: {bare} samples have no image and are left out")
        if broken:
            kept = len(index.places) - before
            index.notes.append(f"{path.name} is damaged ({broken}): only its first {kept} samples are used")
    return index


@dataclass(frozen=True, slots=True)
class _Member:
    key: str
    suffix: str
    offset: int
    size: int


def _members(path: Path) -> tuple[list[_Member], str]:
    """Returns the members that are whole, and what is wrong with the rest."""
    found: list[_Member] = []
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in _sound(tar):
                if not member.isreg():
                    continue
                if member.offset_data + member.size > length:
                    return found, f"{member.name} ends beyond the file"
                folder, slash, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                found.append(
                    _Member(folder + slash + stem, "." + suffix.lower(), member.offset_data, member.size)
                )
            if not _ends_well(path, tar.offset):
                return found, f"cut or damaged at byte {tar.offset}"
    except (tarfile.TarError, EOFError) as error:
        if not found:
            raise DataError(f"{path} is not a plain tar file: {error}") from None
        return found, str(error)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return found, ""


def _ends_well(path: Path, offset: int) -> bool:
    """Whether a tar has its end mark, a block of zeros, where the headers end; tarfile just stops."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(512) == bytes(512)


def _sound(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member
        tar.members = []  # type: ignore[attr-defined]  # it would keep every header


def _add(index: Index, number: int, sample: list[_Member], file: Any) -> bool:
    """Adds a sample; returns False where it has no image."""
    image = next((m for m in sample if "." + m.suffix.rpartition(".")[2] in IMAGE_SUFFIXES), None)
    if image is None:
        return False
    captions: list[str] = []
    label: str | None = None
    for member in sample:
        if member.suffix in (".txt", ".cls", ".json"):
            file.seek(member.offset)
            text = file.read(member.size).decode("utf-8", "replace").strip()
            if member.suffix == ".txt" and text:
                captions.append(text)
            elif member.suffix == ".cls" and text:
                label = text
            elif member.suffix == ".json":
                said, named = _from_json(text)
                captions += [c for c in said if c not in captions]
                label = named or label
    index.places.append((number, image.offset, image.size))
    index.captions.append(captions)
    index.labels.append(label)
    return True


def _from_json(text: str) -> tuple[list[str], str | None]:
    """Returns the captions and the class name in a sample's JSON; none where it is not an object."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError:
        return [], None
    if not isinstance(row, dict):
        return [], None
    said = row.get("captions") or row.get("caption") or row.get("text") or []
    captions = [said] if isinstance(said, str) else [c for c in said if isinstance(c, str)]
    named = row.get("label_name")
    return [c.strip() for c in captions if c.strip()], str(named) if named not in (None, "") else None
