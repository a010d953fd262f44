"""The statements of a change of model: which points lack a vector of the new space, and what fills the gaps.

What is done is what has a vector: a restart at any moment finds by these statements where to go on.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearlight.store import rows
from nearlight.store.ids import id_of
from nearlight.store.originals import checked_blob, original_of
from nearlight.store.parking import parked_place
from nearlight.store.points import F32, I64, PointId
from nearlight.store.rows import Place, Written
from nearlight.store.seqs_by_key import own_seqs_of
from nearlight.store.upgrade_job import Upgrade
from nearlight.store.validation import Batch, unit_rows, vector_checksums

_PENDING_BYTES = 64 * 2**20

FAILURES_TABLE = """
CREATE TABLE IF NOT EXISTS upgrade_failures (  -- points that an upgrade could not embed
  seq INTEGER PRIMARY KEY,
  collection_id INTEGER NOT NULL,
  message TEXT NOT NULL
) STRICT
"""

_LACKING = """
FROM points
LEFT JOIN upgrade_failures AS failed ON failed.seq = points.seq
LEFT JOIN images ON images.seq = points.seq
WHERE points.collection_id = :collection AND points.seq > :after AND failed.seq IS NULL
  AND NOT EXISTS (SELECT 1 FROM vectors WHERE space_no = :space AND vectors.seq = points.seq)
"""
_PENDING = (
    f"SELECT points.seq, image, images.checksum {_LACKING} AND images.seq NOT NULL "
    "ORDER BY points.seq LIMIT :limit"
)
_WANTED = f"SELECT {rows.ROW} {_LACKING} AND images.seq IS NULL ORDER BY points.seq LIMIT :limit"  # noqa: S608
_FAILURES = f"""
SELECT {rows.ROW}, message FROM upgrade_failures AS failed JOIN points ON points.seq = failed.seq
WHERE points.collection_id = ? AND points.seq > ? ORDER BY points.seq LIMIT ?
"""  # noqa: S608 - of constants alone
_COUNTS = """
SELECT count(*), count(vectors.seq), count(iif(vectors.seq IS NULL, failed.seq, NULL)),
  count(iif(vectors.seq IS NULL AND failed.seq IS NULL AND images.seq IS NULL, 1, NULL))
FROM points
LEFT JOIN vectors ON vectors.space_no = ? AND vectors.seq = points.seq
LEFT JOIN upgrade_failures AS failed ON failed.seq = points.seq
LEFT JOIN images ON images.seq = points.seq
WHERE points.collection_id = ?
"""
_PRESENT = """
SELECT seq FROM json_each(?) AS wanted CROSS JOIN vectors ON vectors.seq = wanted.value
WHERE space_no = ? ORDER BY seq
"""
_LOAD_OTHER = f"""
SELECT points.seq, {rows.VECTOR}
FROM points JOIN vectors AS at ON at.space_no = ? AND at.seq = points.seq
LEFT JOIN vectors ON vectors.vector_no = at.vector_no
WHERE points.collection_id IN (?, ?) ORDER BY points.seq
"""  # noqa: S608 - of constants alone
_INSERT_LIVING = """
INSERT OR IGNORE INTO vectors (seq, space_no, vector, checksum)
SELECT ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM points WHERE seq = ? AND collection_id = ?)
"""
_FAIL_LIVING = """
INSERT OR REPLACE INTO upgrade_failures (seq, collection_id, message)
SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM points WHERE seq = ? AND collection_id = ?)
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """How far an upgrade is, in points of the collection.

    Attributes:
        total: all.
        done: with a vector of the new space.
        failed: that could not be embedded.
        wanted: whose original is not kept here: somebody must send it.
        left_out: that are parked.
    """

    total: int
    done: int
    failed: int
    wanted: int
    left_out: int

    @property
    def pending(self) -> int:
        """Whose original is kept here, and waits to be embedded."""
        return self.total - self.done - self.failed - self.wanted


@dataclass(frozen=True, slots=True)
class Pending:
    """A point to embed: its seq, and the image or text it was embedded from."""

    seq: int
    original: bytes | str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A point whose original is not kept: seq, id, and payload as JSON."""

    seq: int
    id: PointId
    payload: str


@dataclass(frozen=True, slots=True)
class UpgradeFailure:
    """A point that could not be embedded, and why."""

    seq: int
    id: PointId
    message: str


def counts(connection: sqlite3.Connection, new: Place) -> Counts:
    """How far it is; looks at every point."""
    row = connection.execute(_COUNTS, (new.space_no, new.collection_id)).fetchone()
    statement = "SELECT count(*) FROM points WHERE collection_id = ?"
    (left_out,) = connection.execute(statement, (-new.collection_id,)).fetchone()
    total, done, failed, n_wanted = row
    return Counts(total, done, failed, n_wanted, left_out)


def load_other(connection: sqlite3.Connection, place: Place) -> Iterator[tuple[I64, F32]]:
    """The vectors that a collection's points, parked ones too, have in the other space; as `rows.load`."""
    cids = (place.collection_id, -place.collection_id)
    return rows.checked_blocks(connection.execute(_LOAD_OTHER, (place.space_no, *cids)), place.dim)


def present_vectors(connection: sqlite3.Connection, place: Place, seqs: list[int]) -> tuple[I64, F32]:
    """Of these ascending seqs those that have a vector (N,), and the vectors (N, D)."""
    found = connection.execute(_PRESENT, (json.dumps(seqs), place.space_no))
    present = [seq for (seq,) in found]
    return np.array(present, np.int64), rows.stored_vectors(connection, place, present)


def pending(connection: sqlite3.Connection, new: Place, after: int, limit: int) -> list[Pending]:
    """The first points after a seq that can be embedded from what is kept; fewer where they are large."""
    some: list[Pending] = []
    n_bytes = 0
    for seq, blob, checksum in connection.execute(_PENDING, _named(new, after, limit)):
        image = checked_blob(seq, blob, checksum)
        some.append(Pending(seq, original_of(image)))
        n_bytes += len(image)
        if n_bytes > _PENDING_BYTES:
            break
    return some


def wanted(connection: sqlite3.Connection, new: Place, after: int, limit: int) -> list[Wanted]:
    """The first points after a seq whose original somebody must send."""
    found = connection.execute(_WANTED, _named(new, after, limit))
    return [Wanted(row[0], id_of(row[1]), rows.checked_payload(row, new)) for row in found]


def failures(connection: sqlite3.Connection, new: Place, after: int, limit: int) -> list[UpgradeFailure]:
    """The first points after a seq that could not be embedded."""
    some: list[UpgradeFailure] = []
    for *row, message in connection.execute(_FAILURES, (new.collection_id, after, limit)):
        seq, key, *_ = row
        rows.checked_payload((seq, key, *_), new)
        some.append(UpgradeFailure(seq, id_of(key), message))
    return some


def insert_vectors(connection: sqlite3.Connection, new: Place, seqs: Sequence[int], vectors: F32) -> int:
    """Write vectors (N, D) of points that exist already; returns how many of them still do."""
    # A generation of the space, built before, would take these rows for covered.
    connection.execute(
        "DELETE FROM index_files WHERE collection_id = ? AND space_no = ?", (new.collection_id, new.space_no)
    )
    _insert(connection, new, seqs, vectors)
    return living(connection, new, seqs)


def insert_others(
    connection: sqlite3.Connection, upgrade: Upgrade, other: Place, batch: Batch, written: Written
) -> Written:
    """Write the vectors that new points bring along for the other space.

    A parked point of the same id is superseded: it dies too.

    Args:
        connection: of the transaction.
        upgrade: under way.
        other: where they go.
        batch: as it was written.
        written: what that changed.

    Returns:
        What changed in all.
    """
    space_id = upgrade.old.space_id if other.space_no == upgrade.old.space_no else upgrade.new.space_id
    found = []
    for seq, point in zip(written.seqs, batch.points, strict=bool(batch.points)):
        if point.other is not None and point.other.space_id == space_id:
            vector = np.asarray(point.other.vector, np.float32)  # (D2,)
            if vector.shape == (other.dim,) and np.isfinite(vector).all() and vector.any():
                found.append((seq, unit_rows(vector[np.newaxis])))  # else it is embedded later, or listed
    if found:
        _insert(connection, other, [seq for seq, _ in found], np.concatenate([row for _, row in found]))
    parked = own_seqs_of(connection, parked_place(other), batch.keys)
    rows.remove(connection, parked)
    return replace(written, dead=[*written.dead, *parked])


def living(connection: sqlite3.Connection, place: Place, seqs: Sequence[int]) -> int:
    """How many of these seqs are points of the collection."""
    statement = (
        "SELECT count(*) FROM json_each(?) AS wanted CROSS JOIN points ON points.seq = wanted.value "
        "WHERE +collection_id = ?"
    )
    (n,) = connection.execute(statement, (json.dumps(list(seqs)), place.collection_id)).fetchone()
    return int(n)


def insert_failures(connection: sqlite3.Connection, new: Place, messages: Mapping[int, str]) -> None:
    """Note why points could not be embedded; those that are gone are left out."""
    cid = new.collection_id
    connection.executemany(_FAIL_LIVING, ((seq, cid, why, seq, cid) for seq, why in messages.items()))


def forget_failures(connection: sqlite3.Connection, collection_id: int) -> None:
    """Let every point that failed be tried again."""
    connection.execute("DELETE FROM upgrade_failures WHERE collection_id = ?", (collection_id,))


def _named(new: Place, after: int, limit: int) -> dict[str, int]:
    return {"collection": new.collection_id, "space": new.space_no, "after": after, "limit": limit}


def _insert(connection: sqlite3.Connection, place: Place, seqs: Sequence[int], vectors: F32) -> None:
    checksums = vector_checksums(vectors).tolist()
    connection.executemany(
        _INSERT_LIVING,
        (
            (seq, place.space_no, row.astype("<f4", copy=False).tobytes(), checksum, seq, place.collection_id)
            for seq, row, checksum in zip(seqs, vectors, checksums, strict=True)
        ),
    )
