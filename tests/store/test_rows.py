import sqlite3

import pytest

from nearlight.store import Collection, Point, Store, rows, seqs_by_key
from nearlight.store.reclaiming import reclaim_step


@pytest.fixture
def connection(store: Store, collection: Collection) -> sqlite3.Connection:
    collection.upsert([Point(i, [1, i, 0, 0], {}) for i in range(50)])
    return store._writer._transaction.connection


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        (rows._LOAD, (1, 1)),
        (rows._BY_ID, (1, "a")),
        (rows._BY_SEQ, ("[1]", 1)),
        (seqs_by_key._SEQS, ("[1]", 1)),
        (seqs_by_key._OWN_SEQS, ("[1]", 1)),
        (seqs_by_key._OWN_SEQ, ("a", 1)),
        (rows._SCROLL, (1, 5)),
        (rows._SCROLL_AFTER, (1, 5, 5)),
        (rows._VECTORS, ("[1]", 1)),
        (rows._REMOVE_VECTORS, ("[1]",)),
    ],
)
def test_no_statement_scans_a_table_or_sorts(
    connection: sqlite3.Connection, statement: str, arguments: tuple[object, ...]
) -> None:
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, arguments)]
    assert not [
        step for step in plan if "TEMP B-TREE FOR ORDER" in step or step in ("SCAN points", "SCAN vectors")
    ], plan


def test_a_replaced_row_leaves_a_tombstone_with_the_seq_that_killed_it(
    store: Store, collection: Collection, connection: sqlite3.Connection
) -> None:
    collection.upsert([Point(0, [1, 1, 1, 1], {})])
    collection.delete([1, 2])
    dead = "SELECT seq, dead_seq FROM dead ORDER BY seq"
    assert connection.execute(dead).fetchall() == [(1, 51), (2, 52), (3, 52)]
    assert connection.execute("SELECT count(*) FROM points").fetchone() == (48,)
    assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (48,)


def test_tombstones_that_no_index_file_needs_are_removed(
    connection: sqlite3.Connection, collection: Collection
) -> None:
    collection.delete([1, 2])
    assert reclaim_step(connection) is False
    assert connection.execute("SELECT count(*) FROM dead").fetchone() == (0,)
    connection.execute(
        "INSERT INTO index_files (collection_id, space_no, generation, up_to_seq, n_rows, file_name, sha256, "
        "factory, faiss_version, state, created_unix_ms) "
        "VALUES (1, 1, 1, 9, 9, 'f', x'00', 'HNSW32', '1', 'live', 0)"
    )
    collection.delete([3])
    assert reclaim_step(connection) is False
    assert connection.execute("SELECT count(*) FROM dead").fetchone() == (1,)
