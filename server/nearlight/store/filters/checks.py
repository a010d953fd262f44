"""What a filter may be: limits on its depth, its size and every value in it."""

from collections.abc import Callable
from math import isfinite, isnan
from typing import Any

from nearlight.store.errors import InvalidPoint, InvalidQuery, shown
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
)
from nearlight.store.filters.instants import instant_us
from nearlight.store.ids import key_of

MAX_DEPTH = 8
MAX_CONDITIONS = 256
MAX_VALUES = 10_000
MAX_KEY_BYTES = 512
MAX_KEY_PARTS = 16


def check_filter(filter: Filter, field: str = "filter") -> None:
    """Check a filter before it is used.

    Args:
        filter: any.
        field: its name in the call; what is at fault is named from there, as on the wire:
            `filter.must[2].field.range.gt`.

    Raises:
        InvalidQuery: names the field, the value and the limit.
    """
    n_left = MAX_CONDITIONS

    def check(level: Filter, where: str, depth: int) -> None:
        nonlocal n_left
        if depth > MAX_DEPTH:
            raise InvalidQuery(where, f"nested {depth} deep", f"the limit is {MAX_DEPTH}")
        least = level.min_should
        if least is not None and not (_is_integer(least) and least >= 0):
            raise InvalidQuery(f"{where}.min_should", shown(least), "it must be an integer, at least 0")
        for clause in ("must", "should", "must_not"):
            for i, condition in enumerate(getattr(level, clause)):
                n_left -= 1
                if n_left < 0:
                    limit = f"the limit is {MAX_CONDITIONS} in all"
                    raise InvalidQuery(field, f"of more than {MAX_CONDITIONS} conditions", limit)
                here = f"{where}.{clause}[{i}]"
                if isinstance(condition, Filter):
                    check(condition, f"{here}.filter", depth + 1)
                else:
                    _check_condition(condition, here)

    check(filter, field, 1)


def check_path(path: Path, field: str) -> None:
    """Check a payload key.

    Raises:
        InvalidQuery: it has no part or too many, is too long, or is not valid Unicode.
    """
    if not 1 <= len(path) <= MAX_KEY_PARTS:
        raise InvalidQuery(field, f"of {len(path)} parts", f"the limit is 1 to {MAX_KEY_PARTS}")
    for part in path:
        _check_text(part, field)
    n_bytes = len(".".join(path).encode())
    if not 1 <= n_bytes <= MAX_KEY_BYTES:
        raise InvalidQuery(field, f"{n_bytes} bytes long", f"the limit is 1 to {MAX_KEY_BYTES}")


def _check_condition(condition: Condition, where: str) -> None:
    match condition:
        case Field(path, test):
            check_path(path, f"{where}.field.key")
            _check_test(test, f"{where}.field")
        case HasId(ids):
            _check_values(ids, f"{where}.has_id.ids", _check_id)
        case IsEmpty(path):
            check_path(path, f"{where}.is_empty")
        case IsNull(path):
            check_path(path, f"{where}.is_null")
        case _:
            raise InvalidQuery(where, f"a {type(condition).__name__}", "it must be a condition")


def _check_test(test: object, where: str) -> None:
    match test:
        case Keyword(text):
            _check_text(text, f"{where}.match.keyword")
        case Prefix(text):
            _check_text(text, f"{where}.match.prefix")
        case Integer(number):
            _check_int64(number, f"{where}.match.integer")
        case Boolean(flag):
            if not isinstance(flag, bool):
                raise InvalidQuery(f"{where}.match.boolean", shown(flag), "it must be true or false")
        case AnyKeyword(texts):
            _check_values(texts, f"{where}.match.any_keyword.values", _check_text)
        case ExceptKeyword(texts):
            _check_values(texts, f"{where}.match.except_keyword.values", _check_text)
        case AnyInteger(numbers):
            _check_values(numbers, f"{where}.match.any_integer.values", _check_int64)
        case ExceptInteger(numbers):
            _check_values(numbers, f"{where}.match.except_integer.values", _check_int64)
        case Range():
            _check_bounds(test, f"{where}.range", _check_number)
        case IntegerRange():
            _check_bounds(test, f"{where}.integer_range", _check_int64)
        case ValuesCount(bounds):
            _check_bounds(bounds, f"{where}.values_count", _check_int64)
        case DatetimeRange():
            _check_bounds(test, f"{where}.datetime_range", _check_moment)
        case GeoRadius(center, radius_m):
            _check_place(center, f"{where}.geo_radius.center")
            _check_radius(radius_m, f"{where}.geo_radius.radius_m")
        case GeoBox():
            _check_box(test, f"{where}.geo_box")
        case _:
            raise InvalidQuery(where, f"a {type(test).__name__}", "it must be a test of a value")


def _check_values(values: Any, field: str, check: Callable[[Any, str], None]) -> None:
    if len(values) > MAX_VALUES:
        raise InvalidQuery(field, f"{len(values)} values", f"the limit is {MAX_VALUES}")
    for value in values:
        check(value, field)


def _check_bounds(bounds: Bounds, field: str, check: Callable[[Any, str], None]) -> None:
    for name in ("gt", "gte", "lt", "lte"):
        bound = getattr(bounds, name)
        if bound is not None:
            check(bound, f"{field}.{name}")


def _check_id(point_id: Any, field: str) -> None:
    try:
        key_of(point_id)
    except InvalidPoint as error:
        raise InvalidQuery(field, error.value, error.limit) from None


def _check_text(text: Any, field: str) -> None:
    if not isinstance(text, str):
        raise InvalidQuery(field, f"a {type(text).__name__}", "it must be a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidQuery(field, shown(text), "it must be valid Unicode, without lone surrogates") from None


def _check_int64(number: Any, field: str) -> None:
    if not _is_integer(number) or not -(2**63) <= number < 2**63:
        raise InvalidQuery(field, shown(number), "it must be an integer of 64 bits, -2^63 to 2^63 - 1")


def _check_number(number: Any, field: str) -> None:
    if _is_integer(number):
        _check_int64(number, field)
    elif not isinstance(number, float) or isnan(number):
        raise InvalidQuery(field, shown(number), "it must be a number")


def _check_moment(text: Any, field: str) -> None:
    if not isinstance(text, str) or instant_us(text) is None:
        limit = "it must be an RFC 3339 date-time, such as 2026-11-23T08:00:00Z"
        raise InvalidQuery(field, shown(text), limit)


def _check_place(place: GeoPoint, field: str) -> None:
    for name, degrees, most in (("lat", place.lat, 90), ("lon", place.lon, 180)):
        _check_number(degrees, f"{field}.{name}")
        if not -most <= degrees <= most:
            raise InvalidQuery(f"{field}.{name}", shown(degrees), f"the limit is -{most} to {most} degrees")


def _check_radius(radius_m: Any, field: str) -> None:
    _check_number(radius_m, field)
    if not (radius_m > 0 and isfinite(radius_m)):
        raise InvalidQuery(field, shown(radius_m), "it must be above 0 metres, and finite")


def _check_box(box: GeoBox, field: str) -> None:
    _check_place(box.top_left, f"{field}.top_left")
    _check_place(box.bottom_right, f"{field}.bottom_right")
    if box.top_left.lat < box.bottom_right.lat:
        limit = f"it must not be below bottom_right.lat, which is {box.bottom_right.lat}"
        raise InvalidQuery(f"{field}.top_left.lat", shown(box.top_left.lat), limit)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
