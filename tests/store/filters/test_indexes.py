import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearlight.store.filters.conditions import (
    Boolean,
    DatetimeRange,
    Field,
    Filter,
    GeoBox,
    GeoPoint,
    HasId,
    Integer,
    IntegerRange,
    Keyword,
    Path,
    Prefix,
    Range,
    ValueTest,
)
from nearlight.store.filters.indexes import (
    PAYLOAD_KINDS,
    create_index,
    drop_index,
    payload_indexes,
    table_of,
)
from nearlight.store.filters.matching import matching_rows, matching_seqs
from nearlight.store.filters.narrowing import narrowest
from nearlight.store.ids import key_of
from nearlight.store.points import PayloadKind
from nearlight.store.schema import open_database
from tests.store.filters import oracle

Payload = dict[str, object]
LONG = "x" * 200


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    opened = open_database(tmp_path_factory.mktemp("indexes") / "store.sqlite3")
    yield opened
    opened.close()


def put(connection: sqlite3.Connection, seq: int, point_id: str | int, payload: Payload) -> None:
    connection.execute(
        "INSERT INTO points (seq, collection_id, id, payload, checksum, created_unix_ms) "
        "VALUES (?, 7, ?, ?, 0, 0)",
        (seq, key_of(point_id), oracle.as_json(payload)),
    )


@settings(max_examples=80, deadline=None)
@given(
    st.lists(oracle.payloads, min_size=1, max_size=len(oracle.IDS)),
    st.lists(
        st.tuples(oracle.paths, st.sampled_from(PAYLOAD_KINDS)), max_size=4, unique_by=lambda one: one[0]
    ),
    st.sampled_from(oracle.KEYS[:4]),
    st.sampled_from(PAYLOAD_KINDS),
    oracle.tests,
    oracle.filters,
)
def test_an_index_never_changes_what_passes(
    connection: sqlite3.Connection,
    payloads: list[Payload],
    indexes: list[tuple[Path, PayloadKind]],
    key: str,
    kind: PayloadKind,
    test: object,
    rest: Filter,
) -> None:
    """Indexes made before, between and after the writes; points inserted, moved to a new seq, and removed."""
    points = list(zip(oracle.IDS, payloads, strict=False))
    wanted = Filter(must=(Field((key,), test), rest))  # type: ignore[arg-type]
    by_path = {**dict(indexes), (key,): kind}
    connection.execute("BEGIN")
    try:
        for path, one in list(by_path.items())[1:]:
            create_index(connection, 7, path, one)
        put(connection, 1, "gone", payloads[-1])
        put(connection, 2, points[0][0], payloads[-1])
        path, one = next(iter(by_path.items()))
        create_index(connection, 7, path, one)
        connection.execute("DELETE FROM points WHERE seq = 1")
        text = oracle.as_json(points[0][1])
        connection.execute("UPDATE points SET seq = 10, payload = ? WHERE seq = 2", (text,))
        for seq, (point_id, payload) in enumerate(points[1:], 11):
            put(connection, seq, point_id, payload)
        expected = [
            10 + i for i, (name, payload) in enumerate(points) if oracle.passes(wanted, name, payload)
        ]
        assert matching_seqs(connection, 7, wanted).tolist() == expected
        assert sorted(row[0] for row in matching_rows(connection, 7, wanted, None)) == expected
        connection.execute("DELETE FROM points")
        for path in by_path:
            assert connection.execute(f"SELECT * FROM {table_of(7, path)}").fetchall() == []  # noqa: S608
            drop_index(connection, 7, path)
        assert payload_indexes(connection, 7) == ()
        leftover = connection.execute(
            "SELECT name FROM sqlite_schema WHERE name LIKE 'payload_index\\_%' ESCAPE '\\'"
        )
        assert leftover.fetchall() == []
    finally:
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("key", [key for key in oracle.KEYS if key])
def test_a_key_of_an_index_is_only_itself_however_it_looks(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("BEGIN")
    try:
        create_index(connection, 7, (key,), "keyword")
        for seq, other in enumerate(oracle.KEYS, 1):
            put(connection, seq, seq, {other: "here"})
        plain = f"SELECT seq FROM {table_of(7, (key,))} WHERE value = 'here'"  # noqa: S608
        found = {seq for (seq,) in connection.execute(plain)} - {oracle.KEYS.index("a\x00b") + 1}
        assert found == ({1 + oracle.KEYS.index(key)} if "\x00" not in key else set())
        filter = Filter(must=(Field((key,), Prefix("h")),))
        assert matching_seqs(connection, 7, filter).tolist() == [1 + oracle.KEYS.index(key)]
    finally:
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("kind", PAYLOAD_KINDS)
def test_an_index_is_not_asked_for_values_it_does_not_hold(
    connection: sqlite3.Connection, kind: PayloadKind
) -> None:
    values = [1.5, 2, True, "x", "2026-11-23T08:00:00Z", {"lat": 1.0, "lon": 2}, ["x", 2, 1.5]]
    place = GeoBox(GeoPoint(2, 1), GeoPoint(0, 3))
    day = DatetimeRange(gte="2026-11-23", lt="2026-11-24")
    wanted: list[tuple[ValueTest, list[int]]] = [
        (Range(gte=1, lte=2), [1, 2, 7]),
        (IntegerRange(gte=1, lte=2), [2, 7]),
        (Integer(2), [2, 7]),
        (Boolean(True), [3]),
        (Keyword("x"), [4, 7]),
        (day, [5]),
        (place, [6]),
    ]
    connection.execute("BEGIN")
    try:
        create_index(connection, 7, ("k",), kind)
        for seq, value in enumerate(values, 1):
            put(connection, seq, seq, {"k": value})
        for test, expected in wanted:
            filter = Filter(must=(Field(("k",), test),))
            assert matching_seqs(connection, 7, filter).tolist() == expected
        put(connection, 9, 9, {"k": "old"})
        connection.execute("UPDATE points SET seq = 10, payload = '{\"k\":2}' WHERE seq = 9")
        assert 10 in matching_seqs(connection, 7, Filter(must=(Field(("k",), Integer(2)),)))
    finally:
        connection.execute("ROLLBACK")


def test_the_narrowest_of_ids_and_indexes_is_asked(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    try:
        for seq in range(1, 201):
            put(connection, seq, seq, {"tags": ["all", f"t{seq % 20}"], "text": LONG + str(seq)})
        create_index(connection, 7, ("tags",), "keyword")
        create_index(connection, 7, ("text",), "keyword")
        rare = Field(("tags",), Prefix("t7"))
        common = Field(("tags",), Prefix("all"))
        cut = Field(("text",), Prefix(LONG + "19"))
        for filter, n_candidates in (
            (Filter(must=(common, rare)), 10),
            (Filter(must=(Filter(must=(rare,)), common)), 10),
            (Filter(must=(rare, HasId(frozenset({7, 8, 999})))), 2),
            (Filter(must=(cut,)), 200),
        ):
            narrowing = narrowest(connection, 7, filter)
            assert narrowing is not None
            assert len(connection.execute(narrowing.sql, narrowing.parameters).fetchall()) == n_candidates
        assert narrowest(connection, 7, Filter(should=(rare,), must_not=(rare,))) is None
        assert narrowest(connection, 7, Filter(must=(Field(("other",), Prefix("x")),))) is None
        assert matching_seqs(connection, 7, Filter(must=(cut,))).tolist() == [19, *range(190, 200)]
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN SELECT seq FROM {table_of(7, ('tags',))} WHERE value = 'x'"  # noqa: S608
        ).fetchall()
        assert plan[0][3].startswith("SEARCH")
    finally:
        connection.execute("ROLLBACK")
