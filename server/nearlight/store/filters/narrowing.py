"""Few points to look at instead of all: what ids or a payload index say of a filter, before it is asked."""

# ruff: noqa: S608 - names of tables and literals are made of hexadecimal digits
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nearlight.store.filters.conditions import (
    AnyInteger,
    AnyKeyword,
    Boolean,
    DatetimeRange,
    Field,
    Filter,
    GeoBox,
    GeoRadius,
    HasId,
    Integer,
    IntegerRange,
    Keyword,
    Path,
    Prefix,
    Range,
    ValuesCount,
    ValueTest,
)
from nearlight.store.filters.indexes import (
    MAX_TEXT_CHARS,
    UNSURE,
    payload_indexes,
    table_of,
)
from nearlight.store.filters.instants import day_of, instant_us
from nearlight.store.filters.sphere import candidates_of_box, candidates_of_radius
from nearlight.store.filters.sql_tests import SqlValue, above, below
from nearlight.store.ids import key_of
from nearlight.store.points import PayloadIndex, PayloadKind

_SERVES: dict[type, tuple[PayloadKind, ...]] = {
    Keyword: ("keyword", "datetime"),
    AnyKeyword: ("keyword", "datetime"),
    Prefix: ("keyword", "datetime"),
    DatetimeRange: ("datetime", "keyword"),
    Integer: ("integer", "number"),
    AnyInteger: ("integer", "number"),
    IntegerRange: ("integer", "number"),
    Range: ("number",),
    Boolean: ("bool",),
    GeoRadius: ("geo",),
    GeoBox: ("geo",),
}


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A query of seqs that holds every point that passes, and some others.

    Attributes:
        sql: `SELECT seq …`.
        parameters: the values of its named parameters.
    """

    sql: str
    parameters: Mapping[str, SqlValue]


def narrowest(connection: sqlite3.Connection, collection_id: int, filter: Filter) -> Narrowing | None:
    """The narrowing that leaves the fewest points, by count; None where nothing narrows the filter."""
    by_path = {index.path: index for index in payload_indexes(connection, collection_id)}
    best: Narrowing | None = None
    n_least = 2**62
    for narrowing in _narrowings(collection_id, filter, by_path):
        counting = f"SELECT count(*) FROM ({narrowing.sql} LIMIT {n_least})"
        (n_points,) = connection.execute(counting, narrowing.parameters).fetchone()
        if n_points < n_least:
            best, n_least = narrowing, n_points
    return best


def _narrowings(
    collection_id: int, filter: Filter, by_path: Mapping[Path, PayloadIndex]
) -> Iterator[Narrowing]:
    for condition in filter.must:
        match condition:
            case Filter():
                yield from _narrowings(collection_id, condition, by_path)
            case HasId(ids):
                keys = [key_of(point_id) for point_id in ids]
                if not any(isinstance(key, str) and "\0" in key for key in keys):  # json_each would cut them
                    yield _of_keys(collection_id, keys)
            case Field(path, test) if not isinstance(test, ValuesCount) and path in by_path:
                if by_path[path].kind in _SERVES.get(type(test), ()):
                    yield _of_values(table_of(collection_id, path), test)


def _of_keys(collection_id: int, keys: list[str | int]) -> Narrowing:
    return Narrowing(
        f"SELECT seq FROM points WHERE collection_id = {int(collection_id)} "
        "AND id IN (SELECT value FROM json_each(:narrow_ids))",
        {"narrow_ids": json.dumps(keys, ensure_ascii=False)},
    )


def _of_values(table: str, test: ValueTest) -> Narrowing:
    where, values = _where(test)
    parameters = {f"narrow_{i}": value for i, value in enumerate(values)}
    for i in range(len(values)):
        where = where.replace("?", f":narrow_{i}", 1)
    return Narrowing(
        f"SELECT seq FROM {table} WHERE {where} UNION ALL SELECT seq FROM {table} WHERE value = {UNSURE}",
        parameters,
    )


def _where(test: ValueTest) -> tuple[str, list[SqlValue]]:
    """The condition on `value` that every value that passes meets, and its parameters."""
    match test:
        case Keyword(text):
            return "value = ?", [text[:MAX_TEXT_CHARS]]
        case Integer(number):
            return "value = ?", [number]
        case Boolean(flag):
            return "value = ?", [int(flag)]
        case AnyKeyword(texts):
            return _among(sorted({text[:MAX_TEXT_CHARS] for text in texts if "\0" not in text}))
        case AnyInteger(numbers):
            return _among(sorted(numbers))
        case Prefix(text):
            cut = text[:MAX_TEXT_CHARS]
            return "value >= ? AND value < CAST(? AS TEXT)", [cut, _end_of(cut)]
        case Range() | IntegerRange():
            lowest = [bound for bound in (test.gt, test.gte) if bound is not None]
            highest = [bound for bound in (test.lt, test.lte) if bound is not None]
            return _between([below(bound) for bound in lowest], [above(bound) for bound in highest])
        case DatetimeRange():
            first = [day_of(instant_us(bound) or 0, -1) for bound in (test.gt, test.gte) if bound is not None]
            last = [day_of(instant_us(bound) or 0, 1) for bound in (test.lt, test.lte) if bound is not None]
            where, values = _between(first, [])
            ends = "".join(" AND value < CAST(? AS TEXT)" for _ in last)
            return where + ends, [*values, *map(_end_of, last)]
        case GeoRadius():
            return _between([candidates_of_radius(test).lat[0]], [candidates_of_radius(test).lat[1]])
        case GeoBox():
            return _between([candidates_of_box(test).lat[0]], [candidates_of_box(test).lat[1]])
        case _:
            raise AssertionError(test)  # `_SERVES` names those above


def _among(values: list[str] | list[int]) -> tuple[str, list[SqlValue]]:
    return "value IN (SELECT value FROM json_each(?))", [json.dumps(values, ensure_ascii=False)]


def _between(
    lowest: list[SqlValue] | list[float] | list[str], highest: list[float]
) -> tuple[str, list[SqlValue]]:
    limits = ["value >= ?" for _ in lowest] + ["value <= ?" for _ in highest]
    return " AND ".join(limits) or "1", [*lowest, *highest]


def _end_of(prefix: str) -> bytes:
    """Bytes behind all text that begins so, and before all other that is behind it."""
    return prefix.encode() + b"\xff"
