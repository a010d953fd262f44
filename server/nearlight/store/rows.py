"""The statements on points and vectors."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np

from nearlight.store.checksums import content_checksum, row_checksum
from nearlight.store.errors import SpaceChanged, StoreCorrupt
from nearlight.store.filters.conditions import Filter
from nearlight.store.filters.matching import Row, matching_rows
from nearlight.store.ids import Key, id_of
from nearlight.store.ordering import Order, OrderedPlace
from nearlight.store.points import F32, I64, Record
from nearlight.store.row_cache import StoredRow
from nearlight.store.validation import vector_checksums
from nearlight.store.writer import Transaction

_LOAD_ROWS = 4096

# Of `vectors AS at`, found by an index, and `vectors`, the row that it points to. SQLite takes a seq from the
# index where it can, and a damaged one would give a point the vector of another: the row says whose it is.
# What a damaged row holds may be of another type.
_IS_OWN = "vectors.seq = at.seq AND vectors.space_no = at.space_no"
_IS_SOUND = "typeof(vectors.vector) = 'blob' AND typeof(vectors.checksum) = 'integer'"
VECTOR = f"iif({_IS_OWN} AND {_IS_SOUND}, vectors.vector, NULL), vectors.checksum"
_LOAD = f"""
SELECT points.seq, {VECTOR}
FROM points LEFT JOIN vectors AS at ON at.space_no = ? AND at.seq = points.seq
LEFT JOIN vectors ON vectors.vector_no = at.vector_no
WHERE points.collection_id = ? ORDER BY points.seq
"""  # noqa: S608 - of constants alone
_PAGE = f"""
SELECT points.seq, {VECTOR}
FROM points JOIN vectors AS at ON at.space_no = ? AND at.seq = points.seq
LEFT JOIN vectors ON vectors.vector_no = at.vector_no
WHERE points.collection_id = ? AND points.seq > ? AND points.seq <= ? ORDER BY points.seq LIMIT ?
"""  # noqa: S608 - of constants alone
ROW = "points.seq, points.id, payload, points.checksum, perceptual_hash"  # the columns of a `Row`
_BY_ID = f"SELECT {ROW} FROM points WHERE collection_id = ? AND id = ?"  # noqa: S608
# CROSS JOIN fixes the order of the loops: one look-up for each wanted seq, never a scan of the collection.
_BY_SEQ = f"""
SELECT {ROW}
FROM json_each(?) AS wanted CROSS JOIN points ON points.seq = wanted.value WHERE +collection_id = ?
"""  # noqa: S608 - of constants alone
_OF_COLLECTION = f"SELECT {ROW} FROM points WHERE collection_id = ?"  # noqa: S608 - of constants alone
_SCROLL = f"{_OF_COLLECTION} ORDER BY id LIMIT ?"
_SCROLL_AFTER = f"{_OF_COLLECTION} AND id > ? ORDER BY id LIMIT ?"
_REMOVE_VECTORS = """
DELETE FROM vectors
WHERE space_no IN (SELECT space_no FROM spaces) AND seq IN (SELECT value FROM json_each(?))
"""
_VECTORS = f"""
SELECT at.seq, {VECTOR}
FROM json_each(?) AS wanted CROSS JOIN vectors AS at ON at.seq = wanted.value
LEFT JOIN vectors ON vectors.vector_no = at.vector_no WHERE at.space_no = ?
"""  # noqa: S608 - of constants alone


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection's rows are."""

    collection_id: int
    space_no: int
    dim: int


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What a write changed: new seqs, seqs that died, and the collection's last seq."""

    seqs: range
    dead: list[int]
    last_seq: int


def delete(transaction: Transaction, place: Place, seqs: list[int]) -> Written | None:
    """Delete live points; the delete takes a seq of its own. None when there are none."""
    if not seqs:
        return None
    (last_seq,) = transaction.new_seqs(1)
    kill(transaction, place, seqs, last_seq)
    keep_last_seq(transaction.connection, place, last_seq)
    return Written(range(0), seqs, last_seq)


def keep_last_seq(connection: sqlite3.Connection, place: Place, seq: int) -> None:
    """Note the seq of a collection's last write."""
    statement = (
        "UPDATE collections SET last_seq = ?1, checksum = checksum - last_seq + ?1 WHERE collection_id = ?2"
    )
    connection.execute(statement, (seq, place.collection_id))


def last_seq_of(connection: sqlite3.Connection, place: Place) -> int:
    """The seq of a collection's last write."""
    statement = "SELECT last_seq FROM collections WHERE collection_id = ?"
    row = connection.execute(statement, (place.collection_id,)).fetchone()
    return int(row[0]) if row else 0


def load(connection: sqlite3.Connection, place: Place) -> Iterator[tuple[I64, F32]]:
    """All vectors of a collection in ascending seq, in blocks of (N,) seqs and (N, D) vectors.

    Raises:
        StoreCorrupt: a vector is missing, of the wrong size, or not what was written.
    """
    return checked_blocks(connection.execute(_LOAD, (place.space_no, place.collection_id)), place.dim)


def checked_blocks(cursor: sqlite3.Cursor, dim: int) -> Iterator[tuple[I64, F32]]:
    """Rows of (seq, vector, checksum) in blocks of (N,) seqs and (N, D) vectors.

    Raises:
        StoreCorrupt: a vector is missing, of the wrong size, or not what was written.
    """
    last = 0
    while block := cursor.fetchmany(_LOAD_ROWS):
        seqs, vectors = _vectors_of(block, dim)
        if (np.diff(seqs, prepend=last) <= 0).any():
            raise StoreCorrupt(f"the database gives the rows behind seq {last} twice or out of order")
        last = int(seqs[-1])
        yield seqs, vectors


def load_in_steps(
    connection: sqlite3.Connection, place: Place, up_to_seq: int, n_rows: int
) -> Iterator[tuple[I64, F32]]:
    """As `load`, of the rows up to a seq; each block is read for itself; rows without a vector are none."""
    after = 0
    while block := connection.execute(
        _PAGE, (place.space_no, place.collection_id, after, up_to_seq, n_rows)
    ).fetchall():
        after = block[-1][0]
        yield _vectors_of(block, place.dim)


def _vectors_of(block: Sequence[tuple[int, bytes | None, int]], dim: int) -> tuple[I64, F32]:
    seqs, blobs, checksums = zip(*block, strict=True)
    for seq, blob in zip(seqs, blobs, strict=True):
        if blob is None or len(blob) != 4 * dim:
            raise StoreCorrupt(f"the vector of seq {seq} is missing or has not {4 * dim} bytes")
    vectors = np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), dim)
    damaged = vector_checksums(vectors) != np.array(checksums, np.int64)
    if damaged.any():
        raise StoreCorrupt(f"the vector of seq {seqs[int(damaged.argmax())]} is not what was written")
    return np.array(seqs, np.int64), vectors


def existing_vectors(connection: sqlite3.Connection, place: Place, seqs: I64) -> tuple[I64, F32]:
    """Seqs (N,) and vectors (N, D) of those of these rows that exist, by ascending seq."""
    found = sorted(connection.execute(_VECTORS, (json.dumps(seqs.tolist()), place.space_no)))
    if not found:
        return np.empty(0, np.int64), np.empty((0, place.dim), np.float32)
    return _vectors_of(found, place.dim)


def check_current(connection: sqlite3.Connection, place: Place) -> None:
    """Check that a collection is still of the space of a place.

    Raises:
        SpaceChanged: it is not.
    """
    statement = "SELECT space_no FROM collections WHERE collection_id = ?"
    if connection.execute(statement, (place.collection_id,)).fetchone() != (place.space_no,):
        raise SpaceChanged("the collection changed its model while the call was under way; try again")


def by_keys(
    connection: sqlite3.Connection, place: Place, keys: Sequence[Key], with_vectors: bool
) -> list[Record]:
    """The points of these keys that exist, in the order of the keys."""
    found = (connection.execute(_BY_ID, (place.collection_id, key)).fetchone() for key in keys)
    rows = [row for row in found if row is not None]
    return _records(connection, place, rows, with_vectors)


def by_seqs(connection: sqlite3.Connection, place: Place, seqs: list[int]) -> dict[int, StoredRow]:
    """Id and payload text of the live points among these seqs."""
    rows = connection.execute(_BY_SEQ, (json.dumps(seqs), place.collection_id)).fetchall()
    return {row[0]: (id_of(row[1]), checked_payload(row, place)) for row in rows}


def after_key(
    connection: sqlite3.Connection,
    place: Place,
    key: Key | None,
    limit: int,
    with_vectors: bool,
    filter: Filter | None = None,
) -> list[Record]:
    """The first points in the order of keys, or the first after this key; of those that pass the filter."""
    if filter is not None:
        rows = list(islice(matching_rows(connection, place.collection_id, filter, key), limit))
    elif key is None:
        rows = connection.execute(_SCROLL, (place.collection_id, limit)).fetchall()
    else:
        rows = connection.execute(_SCROLL_AFTER, (place.collection_id, key, limit)).fetchall()
    return _records(connection, place, rows, with_vectors)


def in_order(
    connection: sqlite3.Connection,
    place: Place,
    order: Order,
    after: OrderedPlace | None,
    limit: int,
    with_vectors: bool,
    filter: Filter,
) -> list[Record]:
    """The first points that pass in an order, or the first behind a place; looks at all that pass."""
    rows = matching_rows(connection, place.collection_id, filter, None)
    return _records(connection, place, order.first(rows, limit, after), with_vectors)


def kill(transaction: Transaction, place: Place, dead: list[int], dead_seq: int) -> None:
    """Remove points and note which write did it."""
    if dead:
        remove(transaction.connection, dead)
        transaction.connection.executemany(
            "INSERT INTO dead (seq, collection_id, dead_seq) VALUES (?, ?, ?)",
            zip(dead, repeat(place.collection_id), repeat(dead_seq)),
        )


def remove(connection: sqlite3.Connection, seqs: list[int]) -> None:
    """Remove points with their vectors in every space."""
    array = json.dumps(seqs)
    connection.execute(_REMOVE_VECTORS, (array,))
    connection.execute("DELETE FROM images WHERE seq IN (SELECT value FROM json_each(?))", (array,))
    connection.execute("DELETE FROM points WHERE seq IN (SELECT value FROM json_each(?))", (array,))


def _records(
    connection: sqlite3.Connection, place: Place, rows: list[Row], with_vectors: bool
) -> list[Record]:
    vectors = stored_vectors(connection, place, [row[0] for row in rows]) if with_vectors else None  # (N, D)
    return [
        Record(
            id=id_of(row[1]),
            payload=json.loads(checked_payload(row, place)),
            seq=row[0],
            vector=None if vectors is None else vectors[i],
        )
        for i, row in enumerate(rows)
    ]


def checked_payload(row: Row, place: Place) -> str:
    """The payload text of a collection's row.

    Raises:
        StoreCorrupt: it is not the row that was written under its seq.
    """
    seq, key, payload, checksum, perceptual_hash = row
    if row_checksum(content_checksum(key, payload, perceptual_hash), seq, place.collection_id) != checksum:
        raise StoreCorrupt(f"the point of seq {seq} is not what was written")
    return payload


def stored_points(connection: sqlite3.Connection, place: Place, seqs: list[int]) -> list[Row]:
    """The rows of live points, in their order; each is what was written."""
    found = {row[0]: row for row in connection.execute(_BY_SEQ, (json.dumps(seqs), place.collection_id))}
    if len(found) < len(seqs):
        missing = next(seq for seq in seqs if seq not in found)
        raise StoreCorrupt(f"the point of seq {missing} is missing")
    for row in found.values():
        checked_payload(row, place)
    return [found[seq] for seq in seqs]


def stored_vectors(connection: sqlite3.Connection, place: Place, seqs: list[int]) -> F32:
    """The vectors (N, D) of N live points.

    Raises:
        StoreCorrupt: one is missing, of the wrong size, or not what was written.
    """
    stored = connection.execute(_VECTORS, (json.dumps(seqs), place.space_no))
    found = {seq: (blob, checksum) for seq, blob, checksum in stored}
    for seq in seqs:
        if len(found.get(seq, (b"",))[0] or b"") != 4 * place.dim:
            raise StoreCorrupt(f"the vector of seq {seq} is missing or has not {4 * place.dim} bytes")
    blobs = b"".join(found[seq][0] for seq in seqs)
    vectors = np.frombuffer(blobs, "<f4").reshape(-1, place.dim).astype(np.float32)  # (N, D)
    damaged = vector_checksums(vectors) != np.array([found[seq][1] for seq in seqs], np.int64)
    if damaged.any():
        raise StoreCorrupt(f"the vector of seq {seqs[int(damaged.argmax())]} is not what was written")
    return vectors
