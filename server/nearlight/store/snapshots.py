"""Snapshots: a collection in one checksummed file, written while it serves.

`NAME.sqlite3` holds the rows, `NAME.json` says what they are and the SHA-256 of the file; a snapshot is there
when its JSON is. Both may be copied to the `snapshots` folder of another store.
"""

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearlight.store.checksums import plain_checksum
from nearlight.store.errors import InvalidPoint, SnapshotDamaged, SnapshotNotFound, StoreCorrupt, shown
from nearlight.store.ids import id_of, key_of
from nearlight.store.names import check_name
from nearlight.store.originals import checked_blob
from nearlight.store.points import F32, CollectionInfo
from nearlight.store.rows import VECTOR, Place, checked_payload
from nearlight.store.snapshot_about import TABLE, About, copy_about, read_about
from nearlight.store.validation import payload_from_json, vector_checksums

FOLDER = "snapshots"
FORMAT = 1
_APPLICATION_ID = 0x4E4C5353  # "NLSS"
_BLOCK_ROWS = 2048
_UNIT = 1e-3  # a stored vector's length is this close to 1

_TABLES = f"""
CREATE TABLE points (
  seq INTEGER PRIMARY KEY,
  id ANY NOT NULL,
  payload TEXT NOT NULL,
  checksum INTEGER NOT NULL,
  content_sha256 BLOB,
  perceptual_hash INTEGER,
  created_unix_ms INTEGER NOT NULL,
  vector BLOB NOT NULL,
  vector_checksum INTEGER NOT NULL,
  image BLOB
) STRICT;
{TABLE}
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""
_COLUMNS = "seq, id, payload, checksum, content_sha256, perceptual_hash, created_unix_ms"
_READ = f"""
SELECT {", ".join("points." + name for name in _COLUMNS.split(", "))}, {VECTOR}, image, images.checksum
FROM points LEFT JOIN vectors AS at ON at.space_no = ? AND at.seq = points.seq
LEFT JOIN vectors ON vectors.vector_no = at.vector_no
LEFT JOIN images ON images.seq = points.seq
WHERE points.collection_id = ? ORDER BY points.seq
"""  # noqa: S608 - the columns are those above


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot.

    Attributes:
        name: unique in its store.
        collection: the name its collection had.
        space_id: of its vectors.
        dim: of its vectors.
        metadata: of the collection.
        payload_indexes: path and kind of each.
        n_points: how many it holds.
        last_seq: it holds the writes up to this one.
        created_unix_ms: when it was begun, milliseconds since 1970 UTC.
        n_bytes: size of its file.
        sha256: of its file, hexadecimal.
        keeps_originals: whether the collection keeps images and texts.
    """

    name: str
    collection: str
    space_id: str
    dim: int
    metadata: dict[str, Any]
    payload_indexes: list[tuple[list[str], str]]
    n_points: int
    last_seq: int
    created_unix_ms: int
    n_bytes: int
    sha256: str
    keeps_originals: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotRow:
    """A point of a snapshot: the columns of `points` after its seq, its vector (D,), and its image."""

    columns: tuple[Any, ...]
    vector: F32
    image: bytes | None


def write_snapshot(
    folder: Path, connection: sqlite3.Connection, place: Place, info: CollectionInfo
) -> SnapshotInfo:
    """Write a snapshot of one committed state.

    Args:
        folder: of the snapshots; made where missing.
        connection: at the state.
        place: of the collection.
        info: of the collection in this state.

    Raises:
        StoreCorrupt: a row is not what was written; there is no snapshot.
        OSError: it cannot be written.
    """
    folder.mkdir(exist_ok=True)
    now = time.time_ns() // 1_000_000
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now / 1000))
    name = f"{info.name[:180].lstrip('.')}-{stamp}-{secrets.token_hex(3)}"
    file, unfinished = folder / f"{name}.sqlite3", folder / f"{name}.tmp"
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as target:
            target.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES + "BEGIN;")
            n_points = _copy(connection, place, target)
            copy_about(connection, place, target)
            target.execute("COMMIT")
        _sync(unfinished)
        made = SnapshotInfo(
            name=name,
            collection=info.name,
            space_id=info.space_id,
            dim=info.dim,
            metadata=info.metadata,
            payload_indexes=[(list(index.path), index.kind) for index in info.payload_indexes],
            n_points=n_points,
            last_seq=info.last_seq,
            created_unix_ms=now,
            n_bytes=unfinished.stat().st_size,
            sha256=_sha256_of(unfinished),
            keeps_originals=info.keeps_originals,
        )
        unfinished.rename(file)
        unfinished.write_text(json.dumps({"format": FORMAT, **asdict(made)}, indent=1), "utf-8")
        _sync(unfinished)
        unfinished.rename(folder / f"{name}.json")
        _sync(folder)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        if not (folder / f"{name}.json").exists():
            file.unlink(missing_ok=True)
        raise
    return made


def list_snapshots(folder: Path) -> list[SnapshotInfo]:
    """The snapshots of a folder, newest first; files that describe none are left out."""
    found = []
    for file in folder.glob("*.json"):
        with suppress(SnapshotDamaged, SnapshotNotFound):
            found.append(snapshot_info(folder, file.stem))
    return sorted(found, key=lambda one: (-one.created_unix_ms, one.name))


def snapshot_info(folder: Path, name: str) -> SnapshotInfo:
    """What a snapshot says of itself.

    Raises:
        SnapshotNotFound: there is none of this name.
        SnapshotDamaged: its description cannot be read, or is of a newer version.
    """
    check_name(name, "snapshot")
    try:
        described = json.loads((folder / f"{name}.json").read_bytes())
        if described.pop("format") != FORMAT:
            raise SnapshotDamaged(f"snapshot {name!r} is of another version; this one reads {FORMAT}")
        return SnapshotInfo(**{**described, "name": name})
    except FileNotFoundError:
        raise SnapshotNotFound(f"there is no snapshot {shown(name)}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SnapshotDamaged(f"snapshot {name!r} cannot be read: {shown(str(error))}") from None


def delete_snapshot(folder: Path, name: str) -> None:
    """Remove a snapshot.

    Raises:
        SnapshotNotFound: there is none of this name.
    """
    check_name(name, "snapshot")
    try:
        (folder / f"{name}.json").unlink()  # from now on it is none
    except FileNotFoundError:
        raise SnapshotNotFound(f"there is no snapshot {shown(name)}") from None
    (folder / f"{name}.sqlite3").unlink(missing_ok=True)


def check_file(folder: Path, info: SnapshotInfo) -> None:
    """Compare a snapshot's file with its checksum.

    Raises:
        SnapshotDamaged: it is missing or another.
    """
    try:
        found = _sha256_of(folder / f"{info.name}.sqlite3")
    except OSError as error:
        raise SnapshotDamaged(f"snapshot {info.name!r}: {error.strerror}") from None
    if found != info.sha256:
        raise SnapshotDamaged(
            f"snapshot {info.name!r} has SHA-256 {found}, but {shown(info.sha256)} was written"
        )


def read_rows(folder: Path, info: SnapshotInfo) -> Iterator[list[SnapshotRow]]:
    """The points of a snapshot in blocks, each of them checked.

    Raises:
        SnapshotDamaged: a row is not what a store writes.
    """
    try:
        with closing(_opened(folder, info)) as connection:
            cursor = connection.execute(
                f"SELECT {_COLUMNS}, vector, vector_checksum, image FROM points ORDER BY seq"  # noqa: S608
            )
            while block := cursor.fetchmany(_BLOCK_ROWS):
                yield [_checked(row, info.dim) for row in block]
    except (sqlite3.Error, InvalidPoint, StoreCorrupt) as error:
        raise SnapshotDamaged(f"snapshot {info.name!r}: {error}") from error


def read_carried(folder: Path, info: SnapshotInfo) -> About:
    """What a snapshot carries beside its points.

    Raises:
        SnapshotDamaged: it is not what a store writes.
    """
    try:
        with closing(_opened(folder, info)) as connection:
            return read_about(connection, info.name)
    except sqlite3.Error as error:
        raise SnapshotDamaged(f"snapshot {info.name!r}: {error}") from error


def _opened(folder: Path, info: SnapshotInfo) -> sqlite3.Connection:
    path = (folder / f"{info.name}.sqlite3").resolve()
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _copy(connection: sqlite3.Connection, place: Place, target: sqlite3.Connection) -> int:
    n_points = 0
    cursor = connection.execute(_READ, (place.space_no, place.collection_id))
    while block := cursor.fetchmany(_BLOCK_ROWS):
        target.executemany(
            "INSERT INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [_of_store(row, place) for row in block],
        )
        n_points += len(block)
    return n_points


def _of_store(row: tuple[Any, ...], place: Place) -> tuple[Any, ...]:
    """A row of the store, checked, as it is in a snapshot."""
    seq, key, payload, checksum, content_sha256, perceptual_hash, created_unix_ms, *rest, image_checksum = row
    if rest[-1] is not None:
        checked_blob(seq, rest[-1], image_checksum)
    checked_payload((seq, key, payload, checksum, perceptual_hash), place)
    checksum = plain_checksum(key, payload)
    made = (seq, key, payload, checksum, content_sha256, perceptual_hash, created_unix_ms, *rest)
    _checked(made, place.dim)
    return made


def _checked(row: tuple[Any, ...], dim: int) -> SnapshotRow:
    seq, key, payload, checksum, *_ = row
    blob, vector_checksum, image = row[-3:]
    if not isinstance(key, str | int) or plain_checksum(key, payload) != checksum:
        raise StoreCorrupt(f"the point of seq {seq} is not what was written")
    key_of(id_of(key))
    payload_from_json(payload)
    if blob is None or len(blob) != 4 * dim:
        raise StoreCorrupt(f"the vector of seq {seq} is missing or has not {4 * dim} bytes")
    vector: F32 = np.frombuffer(blob, "<f4").astype(np.float32)  # (D,)
    if vector_checksums(vector[np.newaxis])[0] != vector_checksum:
        raise StoreCorrupt(f"the vector of seq {seq} is not what was written")
    if not abs(float(np.linalg.norm(vector.astype(np.float64))) - 1) <= _UNIT:  # NaN too
        raise StoreCorrupt(f"the vector of seq {seq} is not of unit length")
    return SnapshotRow(row[1:-3], vector, image)


def _sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
