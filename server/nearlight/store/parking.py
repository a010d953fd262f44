"""Points that are left out of a collection while it is in a space that they have no vector of.

The row of a parked point waits under the negative number of the collection, where nothing that reads the
collection sees it, and comes back unchanged under its own seq.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from nearlight.store.rows import Place

_COLUMNS = "seq, id, payload, checksum, content_sha256, perceptual_hash, created_unix_ms"
_MISSING = """
SELECT seq FROM points WHERE collection_id = ?
  AND NOT EXISTS (SELECT 1 FROM vectors WHERE space_no = ? AND vectors.seq = points.seq)
"""
_PARKED = """
SELECT seq FROM points WHERE collection_id = ?
  AND EXISTS (SELECT 1 FROM vectors WHERE space_no = ? AND vectors.seq = points.seq)
"""


def parked_place(place: Place) -> Place:
    """Where the points of a collection wait that are left out."""
    return replace(place, collection_id=-place.collection_id)


def missing(connection: sqlite3.Connection, place: Place) -> list[int]:
    """The seqs of the points without a vector of a space; looks at every point."""
    found = connection.execute(_MISSING, (place.collection_id, place.space_no))
    return [seq for (seq,) in found]


def park(connection: sqlite3.Connection, collection_id: int, seqs: Sequence[int]) -> None:
    """Take points out of a collection, so that they can come back as they are."""
    _move(connection, collection_id, -collection_id, seqs)


def unpark(connection: sqlite3.Connection, place: Place) -> None:
    """Bring back the points that have a vector of a space."""
    parked = parked_place(place).collection_id
    found = connection.execute(_PARKED, (parked, place.space_no))
    _move(connection, parked, place.collection_id, [seq for (seq,) in found])


def _move(connection: sqlite3.Connection, source: int, target: int, seqs: Sequence[int]) -> None:
    """Move points by deleting and inserting them, so that the triggers of payload indexes follow."""
    array = json.dumps(list(seqs))
    moved = connection.execute(
        f"SELECT {_COLUMNS} FROM points WHERE seq IN (SELECT value FROM json_each(?)) AND +collection_id = ?",  # noqa: S608
        (array, source),
    ).fetchall()
    connection.executemany("DELETE FROM points WHERE seq = ?", [(row[0],) for row in moved])
    connection.executemany(
        f"INSERT INTO points ({_COLUMNS}, collection_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        [(*row, target) for row in moved],
    )
