"""Giving back what deleted collections and dead points leave behind, a little at a time."""

import sqlite3

from nearlight.store.filters.indexes import drop_index, payload_indexes
from nearlight.store.rows import remove

_RECLAIM_ROWS = 2000


def reclaim_step(connection: sqlite3.Connection) -> bool:
    """Remove some rows of deleted collections and tombstones no index file needs; is more left?"""
    run = connection.execute
    n_dead = run(
        "DELETE FROM dead WHERE seq IN (SELECT seq FROM dead WHERE collection_id NOT IN "
        "(SELECT collection_id FROM index_files) LIMIT ?)",
        (10 * _RECLAIM_ROWS,),
    ).rowcount
    gone = run("SELECT collection_id FROM collections WHERE name IS NULL LIMIT 1").fetchone()
    if gone is None:
        return bool(n_dead == 10 * _RECLAIM_ROWS)
    for index in payload_indexes(connection, gone[0]):
        drop_index(connection, gone[0], index.path)
    seqs = run("SELECT seq FROM points WHERE collection_id = ? LIMIT ?", (gone[0], _RECLAIM_ROWS)).fetchall()
    if seqs:
        remove(connection, [seq for (seq,) in seqs])
    else:
        for table in ("aliases", "dead", "index_files", "payload_indexes", "jobs", "collections"):
            run(f"DELETE FROM {table} WHERE collection_id = ?", gone)  # noqa: S608 - the names are those above
    return True
