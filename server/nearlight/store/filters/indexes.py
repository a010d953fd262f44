"""Payload indexes: the values at one key of a collection's points, kept beside them by SQLite's triggers.

An index is a table of (value, seq), one row for each value of a point: an item of a list has its own row,
which an index on an expression could not give. A value is a candidate only, the filter itself decides: texts
are cut, the place of a point is its latitude, and a payload with a NUL in it, of which SQLite reads a part,
is in every index under `UNSURE`. Triggers know no parameters, so keys are written as hexadecimal literals.
"""

# ruff: noqa: S608 - names of tables and literals are made of hexadecimal digits
import hashlib
import json
import sqlite3
import time
from typing import get_args

from nearlight.store.errors import PayloadIndexExists, PayloadIndexNotFound, shown
from nearlight.store.filters.conditions import Path
from nearlight.store.filters.sql import NUL_IN_JSON, rows_at
from nearlight.store.points import PayloadIndex, PayloadKind

PAYLOAD_KINDS: tuple[PayloadKind, ...] = get_args(PayloadKind)

MAX_TEXT_CHARS = 128
UNSURE = "x''"

_TYPES: dict[PayloadKind, str] = {
    "keyword": "'text'",
    "datetime": "'text'",
    "integer": "'integer'",
    "number": "'integer', 'real'",
    "bool": "'true', 'false'",
    "geo": "'object'",
}


def payload_indexes(connection: sqlite3.Connection, collection_id: int) -> tuple[PayloadIndex, ...]:
    """The indexes of a collection, by path."""
    found = connection.execute(
        "SELECT path, kind, created_unix_ms FROM payload_indexes WHERE collection_id = ?", (collection_id,)
    ).fetchall()
    return tuple(sorted((_index(*row) for row in found), key=lambda index: index.path))


def create_index(
    connection: sqlite3.Connection, collection_id: int, path: Path, kind: PayloadKind
) -> PayloadIndex:
    """Make an index that does not exist, fill it, and have it follow every write of a point."""
    table = table_of(collection_id, path)
    run = connection.execute
    now = time.time_ns() // 1_000_000
    run(
        "INSERT INTO payload_indexes (collection_id, path, kind, created_unix_ms) VALUES (?, ?, ?, ?)",
        (collection_id, json.dumps(path), kind, now),
    )
    run(
        f"CREATE TABLE {table} (value ANY NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (value, seq)) "
        "STRICT, WITHOUT ROWID"
    )
    own = f"WHEN %s.collection_id = {int(collection_id)}"
    remove = f"DELETE FROM {table} WHERE seq = old.seq AND value IN ({_values(path, kind, 'old.payload')});"
    insert = f"INSERT INTO {table} SELECT value, new.seq FROM ({_values(path, kind, 'new.payload')});"
    run(f"CREATE TRIGGER {table}_insert AFTER INSERT ON points {own % 'new'} BEGIN {insert} END")
    run(f"CREATE TRIGGER {table}_delete AFTER DELETE ON points {own % 'old'} BEGIN {remove} END")
    run(
        f"CREATE TRIGGER {table}_update AFTER UPDATE OF seq, payload ON points {own % 'new'} "
        f"BEGIN {remove} {insert} END"
    )
    run(f"INSERT INTO {table} {_values_of_all(collection_id, path, kind)}")
    return PayloadIndex(path, kind, now)


def change_index(
    connection: sqlite3.Connection, collection_id: int, path: Path, kind: PayloadKind | None
) -> tuple[PayloadIndex, ...]:
    """Make an index, or remove it where `kind` is None; one that is there already is no error.

    Returns:
        The indexes of the collection from now on.

    Raises:
        PayloadIndexExists: the key has one of another kind.
        PayloadIndexNotFound: there is none to remove.
    """
    there = {index.path: index.kind for index in payload_indexes(connection, collection_id)}
    if kind is None:
        if path not in there:
            raise PayloadIndexNotFound(f"payload key {shown(path)} has no index")
        drop_index(connection, collection_id, path)
    elif path not in there:
        create_index(connection, collection_id, path, kind)
    elif there[path] != kind:
        raise PayloadIndexExists(f"payload key {shown(path)} has an index of kind {there[path]}, not {kind}")
    return payload_indexes(connection, collection_id)


def drop_index(connection: sqlite3.Connection, collection_id: int, path: Path) -> None:
    """Remove an index that exists."""
    table = table_of(collection_id, path)
    for trigger in ("insert", "delete", "update"):
        connection.execute(f"DROP TRIGGER {table}_{trigger}")
    connection.execute(f"DROP TABLE {table}")
    connection.execute(
        "DELETE FROM payload_indexes WHERE collection_id = ? AND path = ?", (collection_id, json.dumps(path))
    )


def compare_values(
    connection: sqlite3.Connection, collection_id: int, index: PayloadIndex, seq: int, payload: str
) -> tuple[int, int]:
    """How many values of a point an index must hold, and how many of them it does not."""
    table = table_of(collection_id, index.path)
    wanted = _values(index.path, index.kind, "?1")
    row = connection.execute(
        f"SELECT count(*), count(*) - count(found.seq) FROM ({wanted}) AS wanted "
        f"LEFT JOIN {table} AS found ON found.value = wanted.value AND found.seq = ?2",
        (payload, seq),
    ).fetchone()
    return int(row[0]), int(row[1])


def count_rows(connection: sqlite3.Connection, collection_id: int, index: PayloadIndex) -> int:
    """How many values an index holds."""
    table = table_of(collection_id, index.path)
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def table_of(collection_id: int, path: Path) -> str:
    """The name of an index's table."""
    return f"payload_index_{int(collection_id)}_{hashlib.sha256(json.dumps(path).encode()).hexdigest()[:24]}"


def _index(path: str, kind: PayloadKind, created_unix_ms: int) -> PayloadIndex:
    return PayloadIndex(tuple(json.loads(path)), kind, created_unix_ms)


def _values(path: Path, kind: PayloadKind, payload: str) -> str:
    """The SQL of one column, `value`: what a payload has at the path, each value once."""
    selects, is_unsure = _selects(path, kind, payload)
    own = " UNION ".join(f"SELECT {value} AS value {rows}" for value, rows in selects)
    return f"{own} UNION SELECT {UNSURE} WHERE {is_unsure}"


def _values_of_all(collection_id: int, path: Path, kind: PayloadKind) -> str:
    """The SQL of `value` and `seq`: the same for all points of a collection."""
    selects, is_unsure = _selects(path, kind, "points.payload")
    here = f"AND points.collection_id = {int(collection_id)}"
    joined = [(value, rows.replace("FROM ", "FROM points CROSS JOIN ", 1)) for value, rows in selects]
    joined.append((UNSURE, f"FROM points WHERE {is_unsure}"))
    return " UNION ".join(f"SELECT {value}, points.seq {rows} {here}" for value, rows in joined)


def _selects(path: Path, kind: PayloadKind, payload: str) -> tuple[list[tuple[str, str]], str]:
    """A value and where it comes from: alone or in a list; and where SQLite may misread."""
    rows, part = rows_at(path, _literal, payload)
    listed = f"CASE {part}.type WHEN 'array' THEN {part}.value ELSE '[]' END"
    items = rows.replace(" WHERE ", f" CROSS JOIN json_each({listed}) AS item WHERE ", 1)
    alone = (_value(kind, part), f"{rows} AND {_is_of(kind, part)}")
    in_list = (_value(kind, "item"), f"{items} AND {_is_of(kind, 'item')}")
    return [alone, in_list], f"instr({payload}, {_literal(NUL_IN_JSON)}) > 0"


def _value(kind: PayloadKind, row: str) -> str:
    if kind == "geo":
        return f"json_extract({row}.value, '$.lat')"
    if kind in ("keyword", "datetime"):
        return f"substr({row}.value, 1, {MAX_TEXT_CHARS})"
    return f"{row}.value"


def _is_of(kind: PayloadKind, row: str) -> str:
    is_of = f"{row}.type IN ({_TYPES[kind]})"
    if kind != "geo":
        return is_of
    # Only an object may be looked into; AND does not promise its order, CASE does.
    lat = f"CASE {row}.type WHEN 'object' THEN json_type({row}.value, '$.lat') END"
    return f"{is_of} AND {lat} IN ('integer', 'real')"


def _literal(text: str) -> str:
    return f"CAST(x'{text.encode().hex()}' AS TEXT)"
