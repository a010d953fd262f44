"""Bringing a database of schema version 1 to version 2: checksums that cover all that is served.

The version is raised first, with the new columns: from then on an older Nearlight refuses the file. Then the
rows of points get their new checksums, block by block, each block durable; a restart goes on behind the last
one. A row that is damaged already, or that lies under another seq than the index says, keeps its old
checksum, which is wrong from then on: it is refused when it is read.
"""

import logging
import sqlite3

from nearlight.store.checksums import content_checksum, plain_checksum, row_checksum
from nearlight.store.errors import StoreCorrupt
from nearlight.store.sealing import SEALED, seal_all

SCHEMA_VERSION = 2
_BLOCK_ROWS = 4096
_log = logging.getLogger(__name__)

_UNDER_WAY = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migration'"
# The index leads from a key to a row, the table has the row's number: only both tell where it belongs.
_BLOCK = """
SELECT seq, collection_id, id, payload, checksum, perceptual_hash,
  (SELECT at.seq FROM points AS at INDEXED BY points_by_id
   WHERE at.collection_id = points.collection_id AND at.id = points.id)
FROM points NOT INDEXED WHERE seq > ? ORDER BY seq LIMIT ?
"""


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a database to this version, or finish what a crash interrupted; nothing where it is there.

    Args:
        connection: that writes, in no transaction, with the functions of `sealing`.
        version: of its schema.

    Raises:
        StoreCorrupt: no row of a block is where the index says.
        sqlite3.Error: the database failed.
    """
    if version < SCHEMA_VERSION:
        _log.info("the store is of schema version %d: it is brought to version %d", version, SCHEMA_VERSION)
        _widen(connection)
    elif not connection.execute(_UNDER_WAY).fetchone():
        return
    while _reseal_block(connection):
        pass
    _log.info("the store is of schema version %d now", SCHEMA_VERSION)


def _widen(connection: sqlite3.Connection) -> None:
    run = connection.execute
    run("BEGIN IMMEDIATE")
    for table in SEALED:
        run(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0")
    run("ALTER TABLE images ADD COLUMN checksum INTEGER")
    seal_all(connection)
    run("CREATE TABLE migration (after_seq INTEGER NOT NULL) STRICT")
    run("INSERT INTO migration VALUES (0)")
    run(f"PRAGMA user_version = {SCHEMA_VERSION}")
    run("COMMIT")


def _reseal_block(connection: sqlite3.Connection) -> bool:
    """Give some points their new checksums, durably; False where none is left."""
    run = connection.execute
    (after,) = run("SELECT after_seq FROM migration").fetchone()
    block = run(_BLOCK, (after, _BLOCK_ROWS)).fetchall()
    run("BEGIN IMMEDIATE")
    if not block:
        run("DROP TABLE migration")
        run("COMMIT")
        return False
    changed: list[tuple[int, int]] = []  # checksum, seq
    last = after
    for seq, collection_id, key, payload, checksum, perceptual_hash, seq_of_index in block:
        if seq != seq_of_index:
            _log.warning("the point of seq %d is damaged: the index has its id under %s", seq, seq_of_index)
            continue
        last = max(last, seq)
        if plain_checksum(key, payload) != checksum:
            _log.warning("the point of seq %d is damaged: it is not what was written", seq)
            continue
        content = content_checksum(key, payload, perceptual_hash)
        changed.append((row_checksum(content, seq, collection_id), seq))
    if last == after:
        raise StoreCorrupt(f"none of {len(block)} points behind seq {after} is where its index says")
    connection.executemany("UPDATE points SET checksum = ? WHERE seq = ?", changed)
    run("UPDATE migration SET after_seq = ?", (last,))
    run("COMMIT")
    return True
