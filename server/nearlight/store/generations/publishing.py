"""From a file that was built to the generation that searches use, and back from the disk when a store opens.

The order is that which no crash can turn into a wrong answer: the file is on the disk under a temporary
name (`write_index_file`), it gets its name, the folder is on the disk, the database names it (the commit
decides), and only then searches see it. What the database does not name is swept away at the next open; what
it names and is not as it was written is put aside.
"""

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import faiss

from nearlight.store.errors import IndexFileBad
from nearlight.store.generations.building import BuildOrder, Built
from nearlight.store.generations.sealed import CHECKED_ROWS, Generation, check_finds
from nearlight.store.generations.settings import IndexSettings
from nearlight.store.rows import Place
from nearlight.store.view import Head, ReadView, placed
from nearlight.store.writer import Transaction

FOLDER = "indexes"
QUARANTINE = "quarantine"
_KEPT_BAD_FILES = 4
_log = logging.getLogger(__name__)

_INSERT = """
INSERT INTO index_files (collection_id, space_no, generation, up_to_seq, n_rows, file_name, sha256, factory,
    params, faiss_version, state, created_unix_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'serving', ?)
"""


@dataclass(frozen=True, slots=True)
class IndexFile:
    """An index file that the database names."""

    generation: int
    up_to_seq: int
    file_name: str
    sha256: bytes
    settings: IndexSettings


def newest_file(connection: sqlite3.Connection, place: Place) -> IndexFile | None:
    """The index file of a collection's vectors, None where the database names none."""
    row = connection.execute(
        "SELECT generation, up_to_seq, file_name, sha256, params FROM index_files "
        "WHERE collection_id = ? AND space_no = ? ORDER BY generation DESC LIMIT 1",
        (place.collection_id, place.space_no),
    ).fetchone()
    if row is None:
        return None
    generation, up_to_seq, file_name, sha256, params = row
    return IndexFile(generation, up_to_seq, file_name, sha256, IndexSettings.from_json(params))


def named_files(connection: sqlite3.Connection) -> list[str]:
    """Names of the files of all collections there are."""
    found = connection.execute(
        "SELECT file_name FROM index_files JOIN collections USING (collection_id) WHERE name IS NOT NULL"
    )
    return [row[0] for row in found]


def next_generation(connection: sqlite3.Connection) -> int:
    """A number above that of any generation before, of any collection."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'index_files'").fetchone()
    return 1 if row is None else int(row[0]) + 1


def read_checked(path: Path, sha256: bytes, number: int, view: ReadView) -> Generation:
    """Read a generation and check that it is of these rows.

    Raises:
        IndexFileBad: it is not.
    """
    generation = Generation.read(path, sha256, number)
    sealed = placed(generation, view.chunks)
    covered = [chunk for chunk in view.chunks if chunk.seqs[0] <= generation.up_to_seq]
    for chunk in covered[-1:]:
        rows = chunk.live_rows()
        some = rows[:: max(1, len(rows) // CHECKED_ROWS)][:CHECKED_ROWS]
        check_finds(sealed, generation.rows_of(chunk.seqs[some]), chunk.vectors[some])
    return generation


def settle_file(built: Path, path: Path) -> None:
    """Give a file that is on the disk its name, durably."""
    os.replace(built, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def name_file(
    transaction: Transaction,
    order: BuildOrder,
    built: Built,
    path: Path,
    settings: IndexSettings,
    number: int,
) -> None:
    """Let the database name a file, in place of those that it named of the collection before."""
    place = order.place
    forget_files(transaction.connection, place)
    transaction.connection.execute(
        _INSERT,
        (
            place.collection_id,
            place.space_no,
            number,
            order.up_to_seq,
            built.n_rows,
            path.name,
            bytes.fromhex(built.sha256),
            built.kind,
            json.dumps({"index": settings.to_json()}),
            faiss.__version__,
            time.time_ns() // 1_000_000,
        ),
    )
    transaction.connection.execute("DELETE FROM dead WHERE collection_id = ?", (place.collection_id,))


def forget_files(connection: sqlite3.Connection, place: Place) -> None:
    """Name no file of a collection's vectors any more."""
    connection.execute(
        "DELETE FROM index_files WHERE collection_id = ? AND space_no = ?",
        (place.collection_id, place.space_no),
    )


def sweep(folder: Path, named: Iterable[str]) -> None:
    """Remove what the database does not name: left by a build or a publication that did not end."""
    kept = {*named, QUARANTINE}
    try:
        for path in folder.iterdir():
            if path.name not in kept:
                _log.info("removing %s, which no collection names", path.name)
                path.unlink()
    except OSError as error:
        _log.warning("the folder of indexes cannot be swept: %s", error)


def quarantine(path: Path) -> None:
    """Put a bad file aside, for people to look at; the oldest ones go."""
    folder = path.parent / QUARANTINE
    with suppress(OSError):  # where the disk is that bad, the next sweep tries again
        folder.mkdir(exist_ok=True)
        if path.exists():
            os.replace(path, folder / f"{path.name}.{time.time_ns()}")
        old = sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime)
        for one in old[:-_KEPT_BAD_FILES]:
            one.unlink()


def open_generation(folder: Path, file: IndexFile, head: Head) -> None:
    """Put a generation from the disk before the rows that were loaded.

    Raises:
        IndexFileBad: the file was bad, and is put aside.
    """
    path = folder / file.file_name
    try:
        head.seal(read_checked(path, file.sha256, file.generation, head.view))
    except (IndexFileBad, MemoryError) as error:
        _log.warning("an index is put aside, search is exact until another is built: %s", error)
        quarantine(path)
        raise IndexFileBad(str(error)) from error
