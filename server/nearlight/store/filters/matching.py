"""The points of a collection that pass a filter, in one state of the database."""

import json
import sqlite3
from collections.abc import Iterator

import numpy as np

from nearlight.store.filters.conditions import Filter
from nearlight.store.filters.evaluate import passes
from nearlight.store.filters.narrowing import narrowest
from nearlight.store.filters.sql import compile_filter
from nearlight.store.filters.sql_tests import SqlValue
from nearlight.store.ids import Key
from nearlight.store.points import I64

Row = tuple[int, Key, str, int, int | None]
"""seq, key, payload, checksum, perceptual hash."""


def matching_seqs(connection: sqlite3.Connection, collection_id: int, filter: Filter) -> I64:
    """The seqs of the points that pass, ascending."""
    compiled = compile_filter(filter)
    where, values = _candidates(connection, collection_id, filter)
    statement = (
        f"SELECT seq, ({compiled.sql}) IS NULL FROM points "  # noqa: S608 - values and keys are parameters
        f"WHERE {where} AND ({compiled.sql}) IS NOT 0 ORDER BY seq"
    )
    found = connection.execute(statement, {**compiled.parameters, **values}).fetchall()
    rows = np.array(found, np.int64).reshape(-1, 2)  # (N, 2): seq, is unsure
    kept = rows[:, 1] == 0
    for i in np.flatnonzero(~kept):
        seq = int(rows[i, 0])
        key, payload = connection.execute("SELECT id, payload FROM points WHERE seq = ?", (seq,)).fetchone()
        kept[i] = passes(filter, key, json.loads(payload))
    seqs: I64 = rows[kept, 0]
    return seqs


def matching_rows(
    connection: sqlite3.Connection, collection_id: int, filter: Filter, after: Key | None
) -> Iterator[Row]:
    """The points that pass, in the order of their keys, read as they are asked for.

    Args:
        connection: keeps its state until the last row.
        collection_id: whose points.
        filter: checked.
        after: only points behind this key; None: all.
    """
    compiled = compile_filter(filter)
    where, values = _candidates(connection, collection_id, filter)
    behind = ""
    if after is not None:
        behind, values["after"] = "AND id > :after", after
    statement = (
        f"SELECT seq, id, payload, checksum, perceptual_hash, ({compiled.sql}) IS NULL FROM points "  # noqa: S608 - as above
        f"WHERE {where} {behind} AND ({compiled.sql}) IS NOT 0 ORDER BY id"
    )
    for *row, is_unsure in connection.execute(statement, {**compiled.parameters, **values}):
        seq, key, payload, checksum, perceptual_hash = row
        if not is_unsure or passes(filter, key, json.loads(payload)):
            yield seq, key, payload, checksum, perceptual_hash


def _candidates(
    connection: sqlite3.Connection, collection_id: int, filter: Filter
) -> tuple[str, dict[str, SqlValue]]:
    """The condition on the points to ask, and its parameters: all of the collection, or fewer."""
    values: dict[str, SqlValue] = {"collection_id": collection_id}
    narrowing = narrowest(connection, collection_id, filter)
    if narrowing is None:
        return "collection_id = :collection_id", values
    # The plus keeps SQLite from scanning the collection: it looks up the seqs.
    return f"+collection_id = :collection_id AND seq IN ({narrowing.sql})", {**values, **narrowing.parameters}
