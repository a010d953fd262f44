"""Tests of one JSON value as SQL: 2 where it surely passes, 1 where it may, 0 where it surely does not.

The value is a row of `json_each`: `type` is the JSON type, `value` the SQL value.
"""

# ruff: noqa: S608 - a test sees that no key and no value becomes part of a statement
import json
import sys
from collections.abc import Iterable
from math import isinf

from nearlight.store.filters.conditions import (
    AnyInteger,
    AnyKeyword,
    Boolean,
    DatetimeRange,
    ExceptInteger,
    ExceptKeyword,
    GeoBox,
    GeoRadius,
    Integer,
    IntegerRange,
    Keyword,
    Prefix,
    Range,
    ValuesCount,
    ValueTest,
)
from nearlight.store.filters.instants import day_of, instant_us
from nearlight.store.filters.sphere import Candidates, candidates_of_box, candidates_of_radius

SqlValue = str | int | float | bytes

_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_SLACK = 1e-12  # relative; SQLite reads a float to within a few units in the last place, 2e-16 each


class Parameters:
    """The values of a statement, under names of our own."""

    def __init__(self) -> None:
        self.values: dict[str, SqlValue] = {}

    def add(self, value: SqlValue) -> str:
        """Returns the placeholder of one more value."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f":{name}"


def value_test(test: ValueTest, row: str, parameters: Parameters) -> str:
    """The test of a value in `row`, an alias of `json_each`."""
    add = parameters.add
    value = f"{row}.value"
    is_text = f"{row}.type = 'text'"
    is_int64 = f"{row}.type = 'integer' AND typeof({value}) = 'integer'"  # a larger one comes as a float
    match test:
        case Keyword(text):
            return f"2 * ({is_text} AND {value} = {add(text)})"
        case Prefix(text):
            return f"2 * ({is_text} AND substr({value}, 1, {add(len(text))}) = {add(text)})"
        case AnyKeyword(texts):
            return f"2 * ({is_text} AND {value} IN {_texts(texts, parameters)})"
        case ExceptKeyword(texts):
            return f"2 * ({is_text} AND {value} NOT IN {_texts(texts, parameters)})"
        case Boolean(flag):
            return f"2 * ({row}.type = '{'true' if flag else 'false'}')"
        case Integer(number):
            return f"2 * ({is_int64} AND {value} = {add(number)})"
        case AnyInteger(numbers):
            return f"2 * ({is_int64} AND {value} IN {_listed(sorted(numbers), parameters)})"
        case ExceptInteger(numbers):
            is_listed = f"{is_int64} AND {value} IN {_listed(sorted(numbers), parameters)}"
            return f"2 * ({row}.type = 'integer' AND NOT ({is_listed}))"
        case IntegerRange():
            return _integer_range(test, row, parameters)
        case Range():
            return _range(test, row, parameters)
        case DatetimeRange():
            return _datetime_range(test, row, parameters)
        case GeoRadius():
            return _geo(candidates_of_radius(test), row, parameters)
        case GeoBox():
            return _geo(candidates_of_box(test), row, parameters)


def count_test(test: ValuesCount, row: str, parameters: Parameters) -> str:
    """The condition on how many values a row holds."""
    count = f"CASE {row}.type WHEN 'array' THEN json_array_length({row}.value) WHEN 'null' THEN 0 ELSE 1 END"
    return _within(test.bounds, f"({count})", parameters)


def _texts(texts: Iterable[str], parameters: Parameters) -> str:
    # A text with a NUL would be cut there; no value equals it that SQLite is asked about.
    return _listed(sorted(text for text in texts if "\0" not in text), parameters)


def _listed(values: list[str] | list[int], parameters: Parameters) -> str:
    return f"(SELECT value FROM json_each({parameters.add(json.dumps(values, ensure_ascii=False))}))"


def _within(bounds: Range | IntegerRange, value: str, parameters: Parameters) -> str:
    limits = [
        f"{value} {operator} {parameters.add(bound)}"
        for name, operator in _OPERATORS.items()
        if (bound := getattr(bounds, name)) is not None
    ]
    return f"({' AND '.join(limits) or '1'})"


def _integer_range(test: IntegerRange, row: str, parameters: Parameters) -> str:
    within = _within(test, f"{row}.value", parameters)
    return (
        f"CASE WHEN {row}.type <> 'integer' THEN 0 WHEN typeof({row}.value) <> 'integer' THEN 1 "
        f"ELSE 2 * {within} END"
    )


def _range(test: Range, row: str, parameters: Parameters) -> str:
    """Exact for integers of 64 bits; for floats sure but for those next to a bound."""
    value = f"{row}.value"
    exactly = _within(test, value, parameters)
    lowest = [bound for bound in (test.gt, test.gte) if bound is not None]
    highest = [bound for bound in (test.lt, test.lte) if bound is not None]
    surely = [f"{value} > {parameters.add(above(bound))}" for bound in lowest]
    surely += [f"{value} < {parameters.add(below(bound))}" for bound in highest]
    maybe = [f"{value} >= {parameters.add(below(bound))}" for bound in lowest]
    maybe += [f"{value} <= {parameters.add(above(bound))}" for bound in highest]
    return (
        f"CASE WHEN {row}.type NOT IN ('integer', 'real') THEN 0 "
        f"WHEN typeof({value}) = 'integer' THEN 2 * {exactly} "
        f"WHEN {' AND '.join(surely) or '1'} THEN 2 WHEN {' AND '.join(maybe) or '1'} THEN 1 ELSE 0 END"
    )


def below(bound: float) -> float:
    """A number surely below what SQLite may read for a float at this bound."""
    return _shifted(bound, -1)


def above(bound: float) -> float:
    """A number surely above what SQLite may read for a float at this bound."""
    return _shifted(bound, 1)


def _shifted(bound: float, sign: int) -> float:
    """A bound moved by the slack; an infinite one, and an integer beyond all floats, stays where it is."""
    largest = sys.float_info.max
    number = float(min(max(bound, -largest), largest)) if not isinf(bound) else float(bound)
    return number if isinf(number) else number + sign * max(abs(number) * _SLACK, sys.float_info.min)


def _datetime_range(test: DatetimeRange, row: str, parameters: Parameters) -> str:
    """Sure for the usual form away from the bounds. All forms begin with the day; a zone shifts it by one."""
    lowest = [instant_us(bound) for bound in (test.gt, test.gte) if bound is not None]
    highest = [instant_us(bound) for bound in (test.lt, test.lte) if bound is not None]
    day = f"substr({row}.value, 1, 10)"
    maybe = [f"{day} >= {parameters.add(day_of(us or 0, -1))}" for us in lowest]
    maybe += [f"{day} <= {parameters.add(day_of(us or 0, 1))}" for us in highest]
    surely = [f"{day} > {parameters.add(day_of(us or 0, 0))}" for us in lowest]
    surely += [f"{day} < {parameters.add(day_of(us or 0, 0))}" for us in highest]
    usual = (
        f"{row}.value GLOB '[1-9][0-9][0-9][0-9]-[01][0-9]-[0-2][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z' "
        f"AND substr({row}.value, 6, 2) BETWEEN '01' AND '12' "
        f"AND substr({row}.value, 9, 2) BETWEEN '01' AND '28' AND substr({row}.value, 12, 2) <= '23'"
    )
    return (
        f"CASE WHEN {row}.type <> 'text' THEN 0 "
        f"WHEN {' AND '.join([usual, *surely])} THEN 2 WHEN {' AND '.join(maybe) or '1'} THEN 1 ELSE 0 END"
    )


def _geo(candidates: Candidates, row: str, parameters: Parameters) -> str:
    def between(number: str, limits: tuple[float, float]) -> str:
        return f"{number} BETWEEN {parameters.add(limits[0])} AND {parameters.add(limits[1])}"

    lat, lon = (f"json_extract({row}.value, '$.{name}')" for name in ("lat", "lon"))
    near = between(lat, candidates.lat)
    if candidates.lon:
        near += f" AND ({' OR '.join(between(lon, limits) for limits in candidates.lon)})"
    return f"CASE WHEN {row}.type = 'object' THEN coalesce({near}, 0) ELSE 0 END"
