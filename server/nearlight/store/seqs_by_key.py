"""Which seqs the points of given keys have: what a write replaces or removes."""

import json
import sqlite3
from collections.abc import Sequence

from nearlight.store.errors import StoreCorrupt
from nearlight.store.ids import Key
from nearlight.store.rows import Place

_FEW_KEYS = 8
_SEQS = """
SELECT seq FROM json_each(?) AS wanted CROSS JOIN points ON points.id = wanted.value WHERE collection_id = ?
"""
_SEQ = "SELECT seq FROM points WHERE collection_id = ?2 AND id = ?1"
# Of `points AS at`, found by an index, and `own`, the row that it points to.
_IS_ITS_OWN = "own.id IS at.id AND own.collection_id IS at.collection_id"
_OWN_SEQS = f"""
SELECT at.seq, {_IS_ITS_OWN} FROM json_each(?) AS wanted CROSS JOIN points AS at ON at.id = wanted.value
LEFT JOIN points AS own ON own.seq = at.seq WHERE at.collection_id = ?
"""  # noqa: S608 - of constants alone
_OWN_SEQ = f"""
SELECT at.seq, {_IS_ITS_OWN} FROM points AS at LEFT JOIN points AS own ON own.seq = at.seq
WHERE at.collection_id = ?2 AND at.id = ?1
"""  # noqa: S608 - of constants alone


def seqs_of(connection: sqlite3.Connection, place: Place, keys: Sequence[Key]) -> list[int]:
    """The seqs of the points of these keys that exist; each key must come once."""
    return [seq for (seq,) in _found(connection, place, keys, _SEQS, _SEQ)]


def own_seqs_of(connection: sqlite3.Connection, place: Place, keys: Sequence[Key]) -> list[int]:
    """As `seqs_of`; whoever removes these rows and writes none of the same keys removes no other point's.

    Raises:
        StoreCorrupt: the row of a seq is that of another point: an index is damaged.
    """
    found = _found(connection, place, keys, _OWN_SEQS, _OWN_SEQ)
    for seq, is_its_own in found:
        if not is_its_own:
            raise StoreCorrupt(f"an index of the database gives seq {seq} to a point that has another")
    return [seq for seq, _ in found]


def _found(
    connection: sqlite3.Connection, place: Place, keys: Sequence[Key], of_many: str, of_one: str
) -> list[tuple[int, ...]]:
    if len(keys) >= _FEW_KEYS and not any(isinstance(key, str) and "\0" in key for key in keys):
        return connection.execute(of_many, (json.dumps(keys), place.collection_id)).fetchall()
    # SQLite ends a string of JSON at a zero byte.
    found = (connection.execute(of_one, (key, place.collection_id)).fetchone() for key in keys)
    return [row for row in found if row is not None]
