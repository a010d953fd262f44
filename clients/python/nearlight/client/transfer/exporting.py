"""A collection into files.

Rows are written in parts, each a parquet file that is synced and then gets its name; a part says where the
next one begins. An export that was interrupted, by Ctrl-C or by kill -9, therefore goes on behind its last
part. One file is made of the parts at the end: a single parquet file, or `.npy` with a `.jsonl` of ids and
payloads beside it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nearlight.client.errors import TransferFailed
from nearlight.client.sync_client import Client
from nearlight.client.transfer.rows import KEY, Origin, Rows, page, rows_of, schema_of, table_of

SUMMARY = "export.json"
PART_BYTES = 32 * 2**20
PAGE_BYTES = 8 * 2**20


@dataclass(slots=True)
class Export:
    """One export.

    Attributes:
        client: of the server.
        collection: name or alias.
        out: `.parquet` or `.npy`, a file; else a folder of parquet files.
        on_progress: called with the export itself when a number grows.
        rows: written.
        resumed: of them, by a run before this.
        part_bytes: of a part, about.
    """

    client: Client
    collection: str
    out: Path
    on_progress: Callable[[Export], None] = lambda _: None
    rows: int = 0
    resumed: int = 0
    part_bytes: int = PART_BYTES
    _parts: list[Path] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        is_file = self.out.suffix in (".parquet", ".npy")
        return self.out.with_name(f"{self.out.name}.parts") if is_file else self.out

    def run(self) -> None:
        """Writes what is not written yet, each point that stays exactly once.

        Raises:
            TransferFailed: the files cannot be written, or those that are there are of something else.
            NearlightError: the server.
        """
        with _as_failure(self.out):
            if self.folder != self.out and self.out.exists():
                shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed at its end
                raise TransferFailed(f"{self.out} exists already")
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / SUMMARY).exists():
                raise TransferFailed(f"{self.folder} holds a finished export already")
            origin = self._origin()
            cursor = self._resume(origin)
            while cursor is not None:
                cursor = self._write_part(origin, cursor)
            self._finish(origin)

    def _origin(self) -> Origin:
        info = self.client.collection(self.collection)
        return Origin(info.name, info.created_unix_ms, info.space_id, info.dim, info.metadata)

    def _resume(self, origin: Origin) -> str | None:
        """Takes over the parts that are there; returns where to go on, None where all is written."""
        import pyarrow.parquet as pq

        for unfinished in self.folder.glob("*.tmp"):
            unfinished.unlink()
        self._parts = sorted(self.folder.glob("part-*.parquet"))
        cursor = ""
        for part in self._parts:
            opened = pq.ParquetFile(part)
            found = Origin.from_json((opened.schema_arrow.metadata or {}).get(KEY, b""), part)
            if not found.is_of(origin):
                raise TransferFailed(
                    f"{part} is of collection {found.collection!r}, space {found.space_id[:16]}, made at "
                    f"{found.created_unix_ms}; it is another now: remove {self.folder}, "
                    "or choose another place"
                )
            self.rows += opened.metadata.num_rows
            cursor = found.cursor
        self.resumed = self.rows
        self.on_progress(self)
        return None if self._parts and not cursor else cursor

    def _write_part(self, origin: Origin, cursor: str) -> str | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables, n_bytes = [], 0
        limit = max(16, min(10_000, PAGE_BYTES // (4 * origin.dim + 256)))
        while True:
            rows, cursor = self.client._caller.run(page(self.collection, cursor, limit), None)
            if len(rows) and rows.vectors.shape[1] != origin.dim:
                raise TransferFailed(f"{self.collection!r} has changed its dim to {rows.vectors.shape[1]}")
            tables.append(table_of(rows, origin) if len(rows) else schema_of(origin).empty_table())
            n_bytes += rows.n_bytes
            if not cursor or n_bytes >= self.part_bytes:
                break
        if not self._origin().is_of(origin):
            raise TransferFailed(f"{self.collection!r} became another while it was exported; begin anew")
        table = pa.concat_tables(tables)
        stamped = table.replace_schema_metadata({KEY: replace(origin, cursor=cursor).to_json()})
        part = self.folder / f"part-{len(self._parts):06d}.parquet"
        with written(part) as unfinished:
            pq.write_table(stamped, unfinished)
        self._parts.append(part)
        self.rows += table.num_rows
        self.on_progress(self)
        return cursor or None

    def _finish(self, origin: Origin) -> None:
        if self.out.suffix == ".parquet":
            self._one_parquet(origin)
        elif self.out.suffix == ".npy":
            self._one_npy(origin)
        else:
            document = {**json.loads(origin.to_json()), "rows": self.rows, "parts": len(self._parts)}
            with written(self.folder / SUMMARY) as unfinished:
                unfinished.write_text(json.dumps(document, indent=1), "utf-8")
            return
        shutil.rmtree(self.folder)

    def _one_parquet(self, origin: Origin) -> None:
        import pyarrow.parquet as pq

        with written(self.out) as unfinished, pq.ParquetWriter(unfinished, schema_of(origin)) as writer:
            for part in self._parts:
                writer.write_table(pq.read_table(part).replace_schema_metadata(schema_of(origin).metadata))

    def _one_npy(self, origin: Origin) -> None:
        import numpy as np

        header = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, origin.dim)}
        with (
            written(self.out) as out,
            written(npy_texts(self.out)) as notes,  # they get their name first
            notes.open("w", encoding="utf-8") as lines,
            out.open("wb") as numbers,
        ):
            lines.write(json.dumps({"nearlight": json.loads(origin.to_json())}) + "\n")
            np.lib.format.write_array_header_1_0(numbers, header)
            self._write_rows(lines, numbers)

    def _write_rows(self, lines: TextIO, numbers: BinaryIO) -> None:
        for rows in self._blocks():
            numbers.write(rows.vectors.astype("<f4").tobytes())
            for point_id, payload in zip(rows.ids, rows.payloads, strict=True):
                lines.write(f'{{"id":{json.dumps(point_id)},"payload":{payload}}}\n')

    def _blocks(self) -> Iterator[Rows]:
        import pyarrow.parquet as pq

        for part in self._parts:
            for batch in pq.ParquetFile(part).iter_batches():
                yield rows_of(batch, part)


def npy_texts(npy: Path) -> Path:
    """Returns the file of ids and payloads beside a file of vectors."""
    return npy.with_suffix(".jsonl")


@contextmanager
def written(file: Path) -> Iterator[Path]:
    """Gives a name to write to; what was written is synced and then gets its own: whole, or not at all."""
    unfinished = file.with_name(f"{file.name}.tmp")
    yield unfinished
    _sync(unfinished)
    unfinished.rename(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _as_failure(what: Any) -> Iterator[None]:
    """Files that fail in the words of this room."""
    import pyarrow as pa

    try:
        yield
    except OSError as error:
        raise TransferFailed(f"{what}: {error}") from error
    except pa.ArrowInvalid as error:
        raise TransferFailed(f"{what}: a file is damaged: {error}") from error
