"""What a filter means, value by value: the reference for the SQL, and the judge of what SQL cannot decide."""

from collections.abc import Iterator, Mapping
from typing import Any

from nearlight.store.filters.conditions import (
    AnyInteger,
    AnyKeyword,
    Boolean,
    Bounds,
    Condition,
    DatetimeRange,
    ExceptInteger,
    ExceptKeyword,
    Field,
    Filter,
    GeoBox,
    GeoPoint,
    GeoRadius,
    HasId,
    Integer,
    IntegerRange,
    IsEmpty,
    IsNull,
    Keyword,
    Path,
    Prefix,
    Range,
    ValuesCount,
    ValueTest,
)
from nearlight.store.filters.instants import instant_us
from nearlight.store.filters.sphere import distance_m, is_in_box
from nearlight.store.ids import Key, id_of

_MISSING: Any = object()


def passes(filter: Filter, key: Key, payload: Mapping[str, Any]) -> bool:
    """Does a point pass?

    Args:
        filter: checked.
        key: the key of its id.
        payload: its payload.
    """
    return (
        all(_holds(condition, key, payload) for condition in filter.must)
        and not any(_holds(condition, key, payload) for condition in filter.must_not)
        and sum(_holds(condition, key, payload) for condition in filter.should) >= filter.n_should
    )


def _holds(condition: Condition, key: Key, payload: Mapping[str, Any]) -> bool:
    match condition:
        case Filter():
            return passes(condition, key, payload)
        case HasId(ids):
            return id_of(key) in ids
        case IsEmpty(path):
            value = _value_at(payload, path)
            return value is _MISSING or value is None or value == []
        case IsNull(path):
            return _value_at(payload, path) is None
        case Field(path, test):
            value = _value_at(payload, path)
            if isinstance(test, ValuesCount):
                return value is not _MISSING and _is_within(test.bounds, _count_of(value))
            return any(value_passes(test, one) for one in _values(value))


def value_passes(test: ValueTest, value: object) -> bool:
    """Does one value pass?"""
    match test:
        case Keyword(text):
            return isinstance(value, str) and value == text
        case Prefix(text):
            return isinstance(value, str) and value.startswith(text)
        case AnyKeyword(texts):
            return isinstance(value, str) and value in texts
        case ExceptKeyword(texts):
            return isinstance(value, str) and value not in texts
        case Boolean(flag):
            return value is flag
        case Integer(number):
            return _is_integer(value) and value == number
        case AnyInteger(numbers):
            return _is_integer(value) and value in numbers
        case ExceptInteger(numbers):
            return _is_integer(value) and value not in numbers
        case IntegerRange():
            return _is_integer(value) and _is_within(test, value)
        case Range():
            return (_is_integer(value) or isinstance(value, float)) and _is_within(test, value)
        case DatetimeRange():
            moment = instant_us(value) if isinstance(value, str) else None
            return moment is not None and _is_within(test, moment)
        case GeoRadius(center, radius_m):
            place = place_of(value)
            return place is not None and distance_m(center, place) <= radius_m
        case GeoBox():
            place = place_of(value)
            return place is not None and is_in_box(test, place)


def _value_at(payload: Mapping[str, Any], path: Path) -> Any:
    value: Any = payload
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _values(value: Any) -> Iterator[object]:
    if value is _MISSING:
        return iter(())
    return iter(value) if isinstance(value, list) else iter((value,))


def _count_of(value: object) -> int:
    if isinstance(value, list):
        return len(value)
    return 0 if value is None else 1


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_within(bounds: Bounds, value: Any) -> bool:
    gt, gte, lt, lte = (
        instant_us(bound) if isinstance(bound, str) else bound
        for bound in (bounds.gt, bounds.gte, bounds.lt, bounds.lte)
    )
    return (
        (gt is None or value > gt)
        and (gte is None or value >= gte)
        and (lt is None or value < lt)
        and (lte is None or value <= lte)
    )


def place_of(value: object) -> GeoPoint | None:
    """The place an object says, None where it says none on Earth."""
    if not isinstance(value, Mapping):
        return None
    lat, lon = _degrees(value.get("lat"), 90), _degrees(value.get("lon"), 180)
    return None if lat is None or lon is None else GeoPoint(lat, lon)


def _degrees(value: Any, most: int) -> float | None:
    is_number = _is_integer(value) or isinstance(value, float)
    return float(value) if is_number and -most <= value <= most else None
