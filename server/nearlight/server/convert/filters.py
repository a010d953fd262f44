"""Filters: from the wire. Every set field is read; what the store cannot take is refused by its name."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from nearlight.server.convert.points import path_of
from nearlight.server.convert.values import point_id_of
from nearlight.server.errors import InvalidInput
from nearlight.store import Filter, InvalidQuery, check_filter
from nearlight.store.filters import conditions
from nearlight.v1 import filter_pb2

MAX_NESTING = 32  # of messages read; the store's limit of levels is lower and is the one that is told


def filter_of(message: filter_pb2.Filter, field: str) -> Filter:
    """A filter, checked.

    Raises:
        InvalidInput: names the field, the value and the limit.
    """
    made = _filter(message, field, 1)
    try:
        check_filter(made, field)
    except InvalidQuery as error:
        raise InvalidInput(str(error), field=error.field) from error
    return made


def wanted_filter(request: Any) -> Filter | None:
    """The filter of a request; None where it has none, or an empty one, which passes every point."""
    made = filter_of(request.filter, "filter") if request.HasField("filter") else None
    return None if made == Filter() else made


def _filter(message: filter_pb2.Filter, field: str, depth: int) -> Filter:
    if depth > MAX_NESTING:
        raise InvalidInput(f"{field[:80]}… is nested {depth} deep; the limit is 8", field="filter")
    clauses = {
        clause: tuple(
            _condition(one, f"{field}.{clause}[{i}]", depth) for i, one in enumerate(getattr(message, clause))
        )
        for clause in ("must", "should", "must_not")
    }
    return Filter(**clauses, min_should=message.min_should if message.HasField("min_should") else None)


def _condition(message: filter_pb2.Condition, field: str, depth: int) -> conditions.Condition:
    which = _one_of(message, "condition", field)
    if which == "field":
        return _field(message.field, f"{field}.field")
    if which == "has_id":
        ids = f"{field}.has_id.ids"
        return conditions.HasId(
            frozenset(point_id_of(one, f"{ids}[{i}]") for i, one in enumerate(message.has_id.ids))
        )
    if which == "is_empty":
        return conditions.IsEmpty(path_of(message.is_empty, f"{field}.is_empty"))
    if which == "is_null":
        return conditions.IsNull(path_of(message.is_null, f"{field}.is_null"))
    return _filter(message.filter, f"{field}.filter", depth + 1)


def _field(message: filter_pb2.FieldCondition, field: str) -> conditions.Field:
    path = path_of(message.key, f"{field}.key")
    which = _one_of(message, "test", field)
    if which == "match":
        kind = _one_of(message.match, "value", f"{field}.match")
        return conditions.Field(path, _MATCHES[kind](getattr(message.match, kind)))
    return conditions.Field(path, _TESTS[which](getattr(message, which), f"{field}.{which}"))


def _bounds(message: Any) -> dict[str, Any]:
    return {name: getattr(message, name) for name in ("gt", "gte", "lt", "lte") if message.HasField(name)}


def _geo_radius(message: filter_pb2.GeoRadius, field: str) -> conditions.GeoRadius:
    return conditions.GeoRadius(_place(message, "center", field), message.radius_m)


def _geo_box(message: filter_pb2.GeoBox, field: str) -> conditions.GeoBox:
    return conditions.GeoBox(_place(message, "top_left", field), _place(message, "bottom_right", field))


def _place(message: Any, name: str, field: str) -> conditions.GeoPoint:
    if not message.HasField(name):
        raise InvalidInput(f"{field}.{name} is not set; it must hold lat and lon", field=f"{field}.{name}")
    place = getattr(message, name)
    return conditions.GeoPoint(place.lat, place.lon)


def _one_of(message: Message, oneof: str, field: str) -> str:
    which: str | None = message.WhichOneof(oneof)
    if which is None:
        names = ", ".join(one.name for one in message.DESCRIPTOR.oneofs_by_name[oneof].fields)
        raise InvalidInput(f"{field} is empty; it must hold exactly one of {names}", field=field)
    return which


_MATCHES: dict[str, Callable[[Any], conditions.Match]] = {
    "keyword": conditions.Keyword,
    "integer": conditions.Integer,
    "boolean": conditions.Boolean,
    "any_keyword": lambda message: conditions.AnyKeyword(frozenset(message.values)),
    "any_integer": lambda message: conditions.AnyInteger(frozenset(message.values)),
    "except_keyword": lambda message: conditions.ExceptKeyword(frozenset(message.values)),
    "except_integer": lambda message: conditions.ExceptInteger(frozenset(message.values)),
    "prefix": conditions.Prefix,
}

_TESTS: dict[str, Callable[[Any, str], conditions.ValueTest | conditions.ValuesCount]] = {
    "range": lambda message, _: conditions.Range(**_bounds(message)),
    "integer_range": lambda message, _: conditions.IntegerRange(**_bounds(message)),
    "datetime_range": lambda message, _: conditions.DatetimeRange(**_bounds(message)),
    "geo_radius": _geo_radius,
    "geo_box": _geo_box,
    "values_count": lambda message, _: conditions.ValuesCount(conditions.IntegerRange(**_bounds(message))),
}
