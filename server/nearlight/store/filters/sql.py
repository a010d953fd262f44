"""A filter as a condition of SQL: every value and every key is a parameter, no text of the caller is SQL.

The condition is true, false or NULL, by SQL's three-valued logic. NULL means that SQLite cannot say: it reads
a JSON string only up to a NUL character, may read the last bit of a float differently, and knows no sphere.
Then `evaluate` decides. Everything here may answer NULL instead of the truth, never the opposite of it.

Keys are compared with what `json_each` lists, not put into JSON paths: those have no way to quote every key.
"""

# ruff: noqa: S608 - a test sees that no key and no value becomes part of a statement
import json
from collections.abc import Callable
from dataclasses import dataclass

from nearlight.store.filters.conditions import (
    Condition,
    Field,
    Filter,
    HasId,
    IsEmpty,
    IsNull,
    Path,
    ValuesCount,
)
from nearlight.store.filters.sql_tests import Parameters, SqlValue, count_test, value_test
from nearlight.store.ids import key_of

NUL_IN_JSON = "\\u0000"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition on a row of `points`.

    Attributes:
        sql: the condition; true, false or NULL.
        parameters: the values of its named parameters.
    """

    sql: str
    parameters: dict[str, SqlValue]


def compile_filter(filter: Filter) -> Compiled:
    """Write a checked filter as SQL."""
    parameters = Parameters()
    nul = parameters.add(NUL_IN_JSON)
    verdict = _filter(filter, parameters)
    return Compiled(f"CASE WHEN instr(points.payload, {nul}) = 0 THEN {verdict} END", parameters.values)


def _filter(filter: Filter, parameters: Parameters) -> str:
    parts = [_condition(condition, parameters) for condition in filter.must]
    parts += [f"NOT {_condition(condition, parameters)}" for condition in filter.must_not]
    if filter.n_should > len(filter.should):
        parts.append("0")
    elif filter.n_should:
        holds = [f"({_condition(condition, parameters)} AND 1)" for condition in filter.should]
        parts.append(f"({' + '.join(holds)} >= {parameters.add(filter.n_should)})")
    return f"({' AND '.join(parts) or '1'})"


def _condition(condition: Condition, parameters: Parameters) -> str:
    match condition:
        case Filter():
            return _filter(condition, parameters)
        case HasId(ids):
            return _has_id(HasId(ids), parameters)
        case IsEmpty(path):
            rows, value = rows_at(path, parameters.add)
            holds = f"{value}.type = 'null' OR ({value}.type = 'array' AND {value}.value = '[]')"
            return f"(NOT EXISTS (SELECT 1 {rows} AND NOT ({holds})))"
        case IsNull(path):
            rows, value = rows_at(path, parameters.add)
            return f"(EXISTS (SELECT 1 {rows} AND {value}.type = 'null'))"
        case Field():
            return _field(condition, parameters)


def _field(condition: Field, parameters: Parameters) -> str:
    """2 where a value surely passes, NULL where one may, else 0."""
    rows, value = rows_at(condition.path, parameters.add)
    test = condition.test
    if isinstance(test, ValuesCount):
        return f"(EXISTS (SELECT 1 {rows} AND {count_test(test, value, parameters)}))"
    of_items = value_test(test, "item", parameters)
    of_value = value_test(test, value, parameters)
    verdict = (
        f"CASE {value}.type WHEN 'array' "
        f"THEN (SELECT max({of_items}) FROM json_each({value}.value) AS item) ELSE {of_value} END"
    )
    return f"nullif(coalesce((SELECT {verdict} {rows}), 0), 1)"


def rows_at(path: Path, add: Callable[[str], str], payload: str = "points.payload") -> tuple[str, str]:
    """FROM and WHERE that give the value at a path as one row of `json_each`, and the name of that row.

    Args:
        path: keys from the outermost object inwards.
        add: gives the SQL that stands for a key.
        payload: SQL of the payload.
    """
    tables = [f"json_each({payload}) AS part0"]
    for i in range(1, len(path)):
        outer = f"part{i - 1}"
        opened = f"CASE {outer}.type WHEN 'object' THEN {outer}.value ELSE '{{}}' END"
        tables.append(f"json_each({opened}) AS part{i}")
    keys = [f"part{i}.key = {add(part)}" for i, part in enumerate(path)]
    return f"FROM {' CROSS JOIN '.join(tables)} WHERE {' AND '.join(keys)}", f"part{len(path) - 1}"


def _has_id(condition: HasId, parameters: Parameters) -> str:
    keys = [key_of(point_id) for point_id in condition.ids]
    plain = [key for key in keys if isinstance(key, int) or "\0" not in key]
    cut = [key.encode().hex().upper() for key in keys if isinstance(key, str) and "\0" in key]
    found = (
        f"points.id IN (SELECT value FROM json_each({parameters.add(json.dumps(plain, ensure_ascii=False))}))"
    )
    if not cut:
        return f"({found})"
    hexadecimal = f"hex(points.id) IN (SELECT value FROM json_each({parameters.add(json.dumps(cut))}))"
    return f"({found} OR (typeof(points.id) = 'text' AND {hexadecimal}))"
