"""Files to import: exports of ours, and any parquet or npy file of vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nearlight.client.errors import TransferFailed
from nearlight.client.sources import as_json
from nearlight.client.transfer.exporting import SUMMARY, npy_texts
from nearlight.client.transfer.rows import KEY, Origin, Rows, rows_of, vectors_of

BLOCK_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a parquet file that is not ours; all others become the payload."""

    id: str = "id"
    vector: str = "vector"


@dataclass(frozen=True, slots=True)
class VectorFiles:
    """Rows in files, in a fixed order.

    Attributes:
        path: as it was named.
        files: read one after another.
        origin: of ours; None: they do not say.
        dim: of the vectors.
        rows: how many there are.
        columns: of a parquet file that is not ours.
    """

    path: Path
    files: tuple[Path, ...]
    origin: Origin | None
    dim: int
    rows: int
    columns: Columns

    def fingerprint(self) -> str:
        """Returns what changes when a file does."""
        stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        return json.dumps([stats, self.columns.id, self.columns.vector])

    def blocks(self, skip: int) -> Iterator[Rows]:
        """Yields the rows in blocks, without the first so many."""
        read = self._npy if self.path.suffix == ".npy" else self._parquet
        for rows in read(skip):
            if len(rows):
                yield rows

    def _parquet(self, skip: int) -> Iterator[Rows]:
        import pyarrow.parquet as pq

        number = 0
        for file in self.files:
            opened = pq.ParquetFile(file)
            if skip >= opened.metadata.num_rows:
                skip -= opened.metadata.num_rows
                number += opened.metadata.num_rows
                continue
            for batch in opened.iter_batches(batch_size=BLOCK_ROWS):
                n = min(skip, batch.num_rows)
                skip, part = skip - n, batch.slice(n)
                yield rows_of(part, file) if self.origin else self._foreign(part, file, number + n)
                number += batch.num_rows

    def _foreign(self, batch: Any, file: Path, number: int) -> Rows:
        names = set(batch.schema.names)
        vectors = vectors_of(batch.column(self.columns.vector), file)
        has_ids = self.columns.id in names
        ids = batch.column(self.columns.id).to_pylist() if has_ids else range(number, number + batch.num_rows)
        others = [name for name in batch.schema.names if name not in (self.columns.id, self.columns.vector)]
        payloads = [
            json.dumps({key: plain for key, value in row.items() if (plain := as_json(value)) is not None})
            for row in batch.select(others).to_pylist()
        ]
        return Rows(list(ids), payloads or ["{}"] * batch.num_rows, vectors)

    def _npy(self, skip: int) -> Iterator[Rows]:
        import numpy as np

        vectors = np.load(self.path, mmap_mode="r", allow_pickle=False)
        texts = npy_texts(self.path)
        if not texts.exists():
            for at in range(skip, len(vectors), BLOCK_ROWS):
                block = np.asarray(vectors[at : at + BLOCK_ROWS], np.float32)
                yield Rows(range(at, at + len(block)), ["{}"] * len(block), block)
            return
        with texts.open(encoding="utf-8") as lines:
            for _ in islice(lines, skip + (self.origin is not None)):
                pass
            at = skip
            while found := list(islice(lines, BLOCK_ROWS)):
                documents = [_line(line, texts, at + i) for i, line in enumerate(found)]
                block = np.asarray(vectors[at : at + len(found)], np.float32)
                if len(block) != len(found):
                    raise TransferFailed(f"{texts} has more lines than {self.path} has vectors")
                payloads = [json.dumps(one.get("payload", {}), ensure_ascii=False) for one in documents]
                yield Rows([one["id"] for one in documents], payloads, block)
                at += len(found)
            if at != len(vectors):
                raise TransferFailed(f"{texts} has {at} ids, {self.path} has {len(vectors)} vectors")


def _line(line: str, file: Path, number: int) -> dict[str, Any]:
    try:
        document = json.loads(line)
        if isinstance(document, dict) and isinstance(document.get("id"), str | int):
            return document
    except ValueError as error:
        raise TransferFailed(f"{file}: the line of vector {number} is not JSON: {error}") from None
    raise TransferFailed(f'{file}: the line of vector {number} must be {{"id": …, "payload": {{…}}}}')


def open_files(path: Path, columns: Columns) -> VectorFiles:
    """Looks at what there is to import.

    Raises:
        TransferFailed: it cannot be read, is unfinished, or lacks a column.
    """
    import pyarrow as pa

    try:
        if path.suffix == ".npy":
            return _open_npy(path, columns)
        return _open_parquet(path, columns)
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise TransferFailed(f"cannot read {path}: {error}") from error


def _open_npy(path: Path, columns: Columns) -> VectorFiles:
    import numpy as np

    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise TransferFailed(f"{path} holds {vectors.dtype} of shape {vectors.shape}; it must be (rows, dim)")
    texts, origin = npy_texts(path), None
    if texts.exists():
        with texts.open("rb") as lines:
            first = json.loads(lines.readline() or b"{}")
        if "nearlight" in first:
            origin = Origin.from_json(json.dumps(first["nearlight"]).encode(), texts)
    files = (path, texts) if texts.exists() else (path,)
    return VectorFiles(path, files, origin, vectors.shape[1], vectors.shape[0], columns)


def _open_parquet(path: Path, columns: Columns) -> VectorFiles:
    import pyarrow.parquet as pq

    files = tuple(sorted(path.glob("*.parquet"))) if path.is_dir() else (path,)
    is_ours = path.is_dir() and any(file.name.startswith("part-") for file in files)
    if path.suffix == ".parts" or (is_ours and not (path / SUMMARY).exists()):
        raise TransferFailed(f"{path} is of an export that is not finished: run the same export again first")
    if not files:
        raise TransferFailed(f"there is no parquet file in {path}")
    opened = [pq.ParquetFile(file) for file in files]
    schema = opened[0].schema_arrow
    rows = sum(one.metadata.num_rows for one in opened)
    text = (schema.metadata or {}).get(KEY)
    if text is not None:
        origin = Origin.from_json(text, files[0])
        return VectorFiles(path, files, origin, origin.dim, rows, columns)
    if columns.vector not in schema.names:
        raise TransferFailed(f"{files[0]} has no column {columns.vector!r}; it has {', '.join(schema.names)}")
    first = next(opened[0].iter_batches(batch_size=1, columns=[columns.vector]), None)
    dim = 0 if first is None else vectors_of(first.column(0), files[0]).shape[1]
    return VectorFiles(path, files, None, dim, rows, columns)
