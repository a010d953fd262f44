import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearlight.store.filters.checks import MAX_CONDITIONS, MAX_VALUES, check_filter
from nearlight.store.filters.conditions import (
    AnyKeyword,
    DatetimeRange,
    Field,
    Filter,
    GeoBox,
    GeoPoint,
    HasId,
    Keyword,
    Range,
    ValuesCount,
)
from nearlight.store.filters.conditions import IntegerRange as Integers
from nearlight.store.filters.evaluate import passes
from nearlight.store.filters.matching import matching_rows, matching_seqs
from nearlight.store.filters.sql import compile_filter
from nearlight.store.ids import id_of, key_of
from nearlight.store.schema import open_database
from tests.store.filters import oracle


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    opened = open_database(tmp_path_factory.mktemp("matching") / "store.sqlite3")
    yield opened
    opened.close()


def fill(connection: sqlite3.Connection, points: list[tuple[str | int, object]]) -> None:
    connection.execute("DELETE FROM points")
    connection.executemany(
        "INSERT INTO points (seq, collection_id, id, payload, checksum, created_unix_ms) "
        "VALUES (?, 7, ?, ?, 0, 0)",
        [(seq, key_of(i), oracle.as_json(payload)) for seq, (i, payload) in enumerate(points, 1)],
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(oracle.payloads, min_size=1, max_size=len(oracle.IDS)), oracle.filters)
def test_sql_and_evaluator_agree_with_the_naive_oracle(
    connection: sqlite3.Connection, payloads: list[dict[str, object]], filter: Filter
) -> None:
    check_filter(filter)
    points: list[tuple[str | int, object]] = list(zip(oracle.IDS, payloads, strict=False))
    connection.execute("BEGIN")
    fill(connection, points)
    try:
        expected = [oracle.passes(filter, point_id, payload) for point_id, payload in points]
        assert [passes(filter, key_of(i), payload) for i, payload in points] == expected  # type: ignore[arg-type]
        found = matching_seqs(connection, 7, filter).tolist()
        assert found == [seq for seq, passed in enumerate(expected, 1) if passed]
        in_order = [id_of(row[1]) for row in matching_rows(connection, 7, filter, None)]
        assert sorted(map(repr, in_order)) == sorted(repr(points[seq - 1][0]) for seq in found)
    finally:
        connection.execute("ROLLBACK")


def one(path: tuple[str, ...], text: str) -> Filter:
    return Filter(must=(Field(path, Keyword(text)),))


@pytest.mark.parametrize("text", oracle.TEXTS + oracle.KEYS)
def test_no_key_and_no_value_becomes_part_of_a_statement(text: str) -> None:
    plain = compile_filter(
        Filter(must=(Field(("k",), AnyKeyword(frozenset({"v"}))), HasId(frozenset({"i"}))))
    )
    if "\x00" in text or not text:
        return
    strange = (Field((text,), AnyKeyword(frozenset({text}))), HasId(frozenset({text})))
    assert compile_filter(Filter(must=strange)).sql == plain.sql


def test_a_key_is_only_itself_however_it_looks(connection: sqlite3.Connection) -> None:
    keys = [key for key in oracle.KEYS if key]
    fill(connection, [(i, {key: "here"}) for i, key in enumerate(keys)])
    for seq, key in enumerate(keys, 1):
        assert matching_seqs(connection, 7, one((key,), "here")).tolist() == [seq]
    fill(
        connection,
        [(0, {"a": {"b": "x"}}), (1, {"a.b": "x"}), (2, {"a": [{"b": "x"}]}), (3, {"a": '{"b":"x"}'})],
    )
    assert matching_seqs(connection, 7, one(("a", "b"), "x")).tolist() == [1]
    assert matching_seqs(connection, 7, one(("a.b",), "x")).tolist() == [2]


def test_the_largest_filter_allowed_works_and_filters_of_10_000_values_too(
    connection: sqlite3.Connection,
) -> None:
    fill(connection, [(i, {"n": i, "t": str(i)}) for i in range(50)])
    wide = Filter(should=tuple(Field(("n",), Range(gte=i, lte=i)) for i in range(MAX_CONDITIONS)))
    check_filter(wide)
    assert matching_seqs(connection, 7, wide).tolist() == list(range(1, 51))
    texts = Field(("t",), AnyKeyword(frozenset(str(i) for i in range(20, 20 + MAX_VALUES))))
    ids = HasId(frozenset(range(30, 30 + MAX_VALUES)))
    deep: Filter = Filter(must=(texts, ids) * 20)
    for _ in range(7):
        deep = Filter(must=(deep, *[Field(("x",) * 16, Keyword("x"))] * 10), min_should=0)
    check_filter(Filter(must=(texts, ids) * 20))
    check_filter(deep)
    assert matching_seqs(connection, 7, deep).tolist() == []
    assert matching_seqs(connection, 7, Filter(must=(texts, ids) * 20)).tolist() == list(range(31, 51))


def test_moments_far_from_a_bound_are_decided_by_sqlite(connection: sqlite3.Connection) -> None:
    fill(connection, [(i, {"at": f"2020-{i + 1:02}-15T12:00:00Z"}) for i in range(12)])
    filter = Filter(must=(Field(("at",), DatetimeRange(gte="2020-06-15T12:00:00Z")),))
    compiled = compile_filter(filter)
    unsure = f"SELECT count(*) FROM points WHERE ({compiled.sql}) IS NULL"  # noqa: S608
    assert connection.execute(unsure, compiled.parameters).fetchone() == (1,)
    assert matching_seqs(connection, 7, filter).tolist() == list(range(6, 13))


def test_a_box_may_cross_the_180th_meridian(connection: sqlite3.Connection) -> None:
    fill(connection, [(i, {"at": {"lat": 0, "lon": lon}}) for i, lon in enumerate((-180, -170, 0, 170, 180))])
    box = GeoBox(GeoPoint(1.0, 175.0), GeoPoint(-1.0, -175.0))
    assert matching_seqs(connection, 7, Filter(must=(Field(("at",), box),))).tolist() == [1, 5]


def test_values_are_counted_as_a_list_has_them(connection: sqlite3.Connection) -> None:
    fill(
        connection,
        list(enumerate([{"t": []}, {"t": [1, [2, 3]]}, {"t": "x"}, {"t": None}, {}, {"t": {"a": 1}}])),
    )
    for lowest, highest, expected in ((0, 0, [1, 4]), (1, 1, [3, 6]), (2, 9, [2])):
        counted = Filter(must=(Field(("t",), ValuesCount(Integers(gte=lowest, lte=highest))),))
        assert matching_seqs(connection, 7, counted).tolist() == expected


def test_points_are_read_through_the_index_of_their_collection(connection: sqlite3.Connection) -> None:
    compiled = compile_filter(one(("k",), "x"))
    for order, index in (("seq", "points_by_seq"), ("id", "points_by_id")):
        statement = f"SELECT seq FROM points WHERE collection_id = 7 AND ({compiled.sql}) ORDER BY {order}"  # noqa: S608
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, compiled.parameters)]
        assert any(step.startswith(f"SEARCH points USING INDEX {index}") for step in plan), plan
        assert not any("ORDER BY" in step for step in plan), plan
