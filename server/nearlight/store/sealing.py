"""Checksums of the rows of small tables: names, spaces, aliases, payload indexes, jobs, label sets.

Temporary triggers of the connection that writes keep them, so that no statement can forget one. A row that
was damaged before it was changed keeps a wrong checksum. Where SQL gives what another program's connection
writes no checksum, that is damage too.
"""

import json
import sqlite3
import zlib

from nearlight.store.errors import StoreCorrupt

_FUNCTION = "nearlight_row_sum"
_COLUMNS = {
    "spaces": ("space_no", "space_id", "dim", "details", "created_unix_ms"),  # the calibration has its own
    "collections": ("collection_id", "name", "space_no", "config", "metadata", "created_unix_ms"),
    "aliases": ("alias", "collection_id"),
    "payload_indexes": ("collection_id", "path", "kind", "created_unix_ms"),
    "jobs": ("job_no", "kind", "collection_id", "details", "cursor", "state", "error", "created_unix_ms"),
    "label_sets": ("name", "space_no", "labels", "calibration", "created_unix_ms"),  # prototypes: their own
}
SEALED = tuple(_COLUMNS)
_CHECKED_LATER = "label_sets"  # a damaged one is no reason to refuse the others
# Every write sets it, and moves the checksum by as much: see `rows.keep_last_seq`.
_COUNTED = {"collections": "last_seq"}


def add_functions(connection: sqlite3.Connection) -> None:
    """Let a connection compute checksums."""
    connection.create_function(_FUNCTION, -1, _row_sum)


def seal_writes(connection: sqlite3.Connection) -> None:
    """Keep the checksums of what this connection writes; it has the functions."""
    for table, columns in _COLUMNS.items():
        new, old = _sum_of(table, "new."), _sum_of(table, "old.")
        start = f"CREATE TEMP TRIGGER seal_{table}"
        write = f"UPDATE {table} SET checksum = %s WHERE rowid = new.rowid"  # noqa: S608 - constants
        whole = f"iif(old.checksum IS {old}, {new}, -1)"
        connection.execute(f"{start}_insert AFTER INSERT ON main.{table} BEGIN {write % new}; END")
        connection.execute(
            f"{start}_update AFTER UPDATE OF {', '.join(columns)} ON main.{table} BEGIN {write % whole}; END"
        )


def seal_all(connection: sqlite3.Connection) -> None:
    """Give every row the checksum of what it holds."""
    for table in SEALED:
        connection.execute(f"UPDATE {table} SET checksum = {_sum_of(table)}")  # noqa: S608 - constants


def is_sound(table: str) -> str:
    """The SQL that tells whether a row of a table is what was written."""
    return f"({table}.checksum IS {_sum_of(table, f'{table}.')})"


def check_sealed(connection: sqlite3.Connection) -> None:
    """Check the small tables but the label sets, which are checked when they are read.

    Raises:
        StoreCorrupt: a row is not what was written.
    """
    for table in SEALED:
        if table == _CHECKED_LATER:
            continue
        first = _COLUMNS[table][0]
        row = connection.execute(f"SELECT {first} FROM {table} WHERE NOT {is_sound(table)}").fetchone()  # noqa: S608
        if row is not None:
            raise StoreCorrupt(f"table {table}: the row of {first} {row[0]!r:.100} is not what was written")


def _sum_of(table: str, prefix: str = "") -> str:
    own = f"{_FUNCTION}({', '.join(prefix + column for column in _COLUMNS[table])})"
    return f"{own} + {prefix}{_COUNTED[table]}" if table in _COUNTED else own


def _row_sum(*values: object) -> int:
    return zlib.crc32(json.dumps(values, default=repr).encode())
