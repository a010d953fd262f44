"""The statements that write points.

A thread that runs a statement gives the interpreter away for each row that it is handed, and gets it back
when another thread pleases: so many rows go into one statement, and their vectors as one block of bytes.
"""

import json
import sqlite3
import time
from functools import lru_cache

from nearlight.store import rows
from nearlight.store.checksums import row_checksums
from nearlight.store.errors import StoreCorrupt
from nearlight.store.points import F32, I64
from nearlight.store.rows import Place, Written
from nearlight.store.seqs_by_key import seqs_of
from nearlight.store.validation import Batch
from nearlight.store.writer import Transaction

# Rows of one statement: each has parameters of its own, and SQLite takes 32,766 at most.
_ROWS = 64
# Vectors of one statement: SQLite holds a copy of their bytes.
_VECTOR_BYTES = 8 * 2**20

_COLUMNS = "seq, collection_id, id, payload, checksum, perceptual_hash, created_unix_ms"
_VECTORS = """
INSERT INTO vectors (seq, space_no, vector, checksum)
SELECT ?1 + key, ?2, substr(?3, 1 + key * ?4, ?4), value FROM json_each(?5)
"""


def insert(transaction: Transaction, place: Place, batch: Batch) -> Written:
    """Write points under new seqs; a point that had the same id dies.

    Raises:
        SpaceChanged: the collection is of another space now. Nothing is kept of the request.
        StoreCorrupt: an index of the database is damaged. Nothing is kept either.
    """
    connection = transaction.connection
    rows.check_current(connection, place)
    dead = seqs_of(connection, place, batch.keys)
    seqs = transaction.new_seqs(len(batch.keys))
    rows.kill(transaction, place, dead, seqs[-1])
    _insert_points(connection, place, batch, seqs)
    _insert_vectors(connection, place.space_no, seqs, batch.vectors, batch.vector_checksums)
    rows.keep_last_seq(connection, place, seqs[-1])
    return Written(seqs, dead, seqs[-1])


def _insert_points(connection: sqlite3.Connection, place: Place, batch: Batch, seqs: range) -> None:
    now = time.time_ns() // 1_000_000
    checksums = row_checksums(batch.contents, seqs, place.collection_id)
    columns = (seqs, batch.keys, batch.payloads, checksums, batch.perceptual_hashes)
    for at in range(0, len(seqs), _ROWS):
        some = [column[at : at + _ROWS] for column in columns]
        flat = [value for row in zip(*some, strict=True) for value in row]
        try:
            connection.execute(_points(len(some[0])), (place.collection_id, now, *flat))
        except sqlite3.IntegrityError as error:  # after all points of these ids were removed
            raise StoreCorrupt(
                f"an index of the database holds an id whose point is gone: {error}"
            ) from error


@lru_cache(_ROWS)
def _points(n_rows: int) -> str:
    """The statement that inserts so many points."""
    values = ", ".join(
        f"(?{at}, ?1, ?{at + 1}, ?{at + 2}, ?{at + 3}, ?{at + 4}, ?2)" for at in range(3, 3 + 5 * n_rows, 5)
    )
    return f"INSERT INTO points ({_COLUMNS}) VALUES {values}"  # noqa: S608


def _insert_vectors(
    connection: sqlite3.Connection, space_no: int, seqs: range, vectors: F32, checksums: I64
) -> None:
    """Write the vectors (N, D) of these N seqs, which follow each other."""
    n_bytes = 4 * vectors.shape[1]
    step = max(1, _VECTOR_BYTES // n_bytes)
    for at in range(0, len(seqs), step):
        block = vectors[at : at + step].astype("<f4", copy=False).tobytes()
        texts = json.dumps(checksums[at : at + step].tolist())
        connection.execute(_VECTORS, (seqs[at], space_no, block, n_bytes, texts))
