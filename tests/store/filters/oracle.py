"""The naive meaning of a filter, from filter.proto alone; made-up payloads and filters to try it on."""

import json
from datetime import UTC, datetime
from fractions import Fraction
from math import asin, cos, radians, sin, sqrt
from typing import Any

from hypothesis import strategies as st

from nearlight.store.filters import conditions as c

# Few keys and values, so that they meet; among them what SQL, JSON paths and floats trip over.
KEYS = ["a", "b", 'a"b', "a.b", "$.a", "*", "a[0]", "", "é", "a\x00b", "'; DROP TABLE points; --", "\\", "\n"]
TEXTS = ["", "x", "xy", "x\x00y", "1", "true", "%", "_", "é", "e\u0301", "🐕", '"', "\\u0000", "' OR 1=1 --"]
DAYS = ["2026-11-23T08:00:00Z", "2026-11-23t08:00:00.5z", "2026-11-23T10:00:00+02:00", "2026-11-22", "no day"]
DAYS += ["2026-11-23 08:00", "2026-13-01T00:00:00Z", "2026-02-30", "0001-01-01T00:00:00+01:00", "2026-11-24"]
DAYS += [
    "9999-12-31T23:59:59-23:59",
    "2016-12-31T23:59:60Z",
    "2026-11-23T08:00:00.000001Z",
    "2026-11-20T24:00:00Z",
]
INTEGERS = [0, 1, -1, 2, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
HUGE = [2**63, -(2**63) - 1, 10**40]
FLOATS = [
    0.0,
    1.0,
    -1.0,
    0.1,
    0.3,
    1.5,
    float(2**53),
    2.0**63,
    1e300,
    5e-324,
    1.7976931348623157e308,
    0.1 + 0.2,
]
PLACES = [
    {"lat": 52.5, "lon": 13.4},
    {"lat": 0, "lon": 180},
    {"lat": 0.0, "lon": -179.999},
    {"lat": 90, "lon": 7},
]
PLACES += [{"lat": 52.5}, {"lat": "52.5", "lon": 13.4}, {"lat": 91, "lon": 0}, {"lat": True, "lon": 0}]
IDS: list[str | int] = [0, 1, 2**64 - 1, "1", "a", "a\x00b", "é", "' OR 1=1 --"]

numbers = st.sampled_from([*INTEGERS, *HUGE, *FLOATS]) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.sampled_from([*TEXTS, *DAYS])
places = st.sampled_from(PLACES) | st.fixed_dictionaries(
    {"lat": st.floats(-90, 90), "lon": st.floats(-180, 180)}
)
keys = st.sampled_from(KEYS)
values = st.recursive(
    scalars | places,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
payloads: st.SearchStrategy[dict[str, Any]] = st.dictionaries(keys, values, max_size=5)

paths = st.lists(keys, min_size=1, max_size=3).map(tuple).filter(lambda path: path != ("",))


def _bounds(kind: Any, number: Any) -> Any:
    maybe = st.none() | number
    return st.builds(kind, gt=maybe, gte=maybe, lt=maybe, lte=maybe)


geo_points = st.builds(c.GeoPoint, st.floats(-90, 90), st.floats(-180, 180)) | st.sampled_from(
    [c.GeoPoint(52.5, 13.4), c.GeoPoint(0.0, 180.0), c.GeoPoint(90.0, 0.0), c.GeoPoint(-90.0, 0.0)]
)
boxes = st.builds(c.GeoBox, geo_points, geo_points).filter(
    lambda box: box.top_left.lat >= box.bottom_right.lat
)
some_texts = st.frozensets(st.sampled_from(TEXTS), max_size=3)
some_integers = st.frozensets(st.sampled_from(INTEGERS), max_size=3)
integer_ranges = _bounds(c.IntegerRange, st.sampled_from(INTEGERS))
tests = st.one_of(
    st.builds(c.Keyword, st.sampled_from(TEXTS)),
    st.builds(c.Prefix, st.sampled_from(TEXTS)),
    st.builds(c.Integer, st.sampled_from(INTEGERS)),
    st.builds(c.Boolean, st.booleans()),
    st.builds(c.AnyKeyword, some_texts),
    st.builds(c.AnyInteger, some_integers),
    st.builds(c.ExceptKeyword, some_texts),
    st.builds(c.ExceptInteger, some_integers),
    _bounds(c.Range, st.sampled_from(FLOATS) | st.floats(allow_nan=False)),
    integer_ranges,
    _bounds(
        c.DatetimeRange,
        st.sampled_from(
            [day for day in DAYS if day[:7] not in ("no day", "2026-13", "2026-02") and "T24" not in day]
        ),
    ),
    st.builds(c.ValuesCount, integer_ranges),
    st.builds(c.GeoRadius, geo_points, st.floats(1, 3e7)),
    boxes,
)
leaves = st.one_of(
    st.builds(c.Field, paths, tests),
    st.builds(c.Field, keys.filter(bool).map(lambda key: (key,)), tests),
    st.builds(c.IsEmpty, paths),
    st.builds(c.IsNull, paths),
    st.builds(c.HasId, st.frozensets(st.sampled_from(IDS), max_size=4)),
)


def _filters(conditions: Any) -> Any:
    some = st.lists(conditions, max_size=3).map(tuple)
    return st.builds(c.Filter, some, some, some, st.none() | st.integers(0, 4))


filters: st.SearchStrategy[c.Filter] = _filters(leaves | _filters(leaves | _filters(leaves)))


def passes(filter: c.Filter, point_id: str | int, payload: Any) -> bool:
    """Does a point pass, in the plainest way?"""
    must = [holds(one, point_id, payload) for one in filter.must]
    must_not = [holds(one, point_id, payload) for one in filter.must_not]
    should = [holds(one, point_id, payload) for one in filter.should]
    least = filter.min_should if filter.min_should is not None else (1 if should else 0)
    return False not in must and True not in must_not and should.count(True) >= least


def holds(condition: c.Condition, point_id: str | int, payload: Any) -> bool:
    if isinstance(condition, c.Filter):
        return passes(condition, point_id, payload)
    if isinstance(condition, c.HasId):
        return any(type(one) is type(point_id) and one == point_id for one in condition.ids)
    found, is_there = payload, True
    for part in condition.path:
        if type(found) is dict and part in found:
            found = found[part]
        else:
            is_there = False
            break
    if isinstance(condition, c.IsEmpty):
        return not is_there or found in (None, [])
    if isinstance(condition, c.IsNull):
        return is_there and found is None
    if not is_there:
        return False
    if isinstance(condition.test, c.ValuesCount):
        count = len(found) if type(found) is list else 0 if found is None else 1
        return bounded(condition.test.bounds, count, Fraction)
    return any(value_passes(condition.test, one) for one in (found if type(found) is list else [found]))


def value_passes(test: Any, value: Any) -> bool:
    match test:
        case c.Keyword() | c.Integer() | c.Boolean():
            return type(value) is type(test.value) and value == test.value
        case c.Prefix():
            return type(value) is str and value.encode().startswith(test.value.encode())
        case c.AnyKeyword():
            return type(value) is str and value in test.values
        case c.AnyInteger():
            return type(value) is int and value in test.values
        case c.ExceptKeyword():
            return type(value) is str and value not in test.values
        case c.ExceptInteger():
            return type(value) is int and value not in test.values
        case c.Range():
            return type(value) in (int, float) and bounded(test, value, float_or_fraction)
        case c.IntegerRange():
            return type(value) is int and bounded(test, value, Fraction)
        case c.DatetimeRange():
            return type(value) is str and moment(value) is not None and bounded(test, value, moment)
        case c.GeoRadius(center, radius_m):
            return (
                is_place(value)
                and haversine_m(center.lat, center.lon, value["lat"], value["lon"]) <= radius_m
            )
        case c.GeoBox(top_left, bottom_right):
            if not is_place(value) or not bottom_right.lat <= value["lat"] <= top_left.lat:
                return False
            if top_left.lon <= bottom_right.lon:
                return bool(top_left.lon <= value["lon"] <= bottom_right.lon)
            return bool(value["lon"] >= top_left.lon or value["lon"] <= bottom_right.lon)
    raise AssertionError(test)


def float_or_fraction(number: Any) -> Any:
    return number if number in (float("inf"), float("-inf")) else Fraction(number)


def bounded(bounds: Any, value: Any, read: Any) -> bool:
    number = read(value)
    return (
        (bounds.gt is None or number > read(bounds.gt))
        and (bounds.gte is None or number >= read(bounds.gte))
        and (bounds.lt is None or number < read(bounds.lt))
        and (bounds.lte is None or number <= read(bounds.lte))
    )


def moment(text: str) -> Fraction | None:
    """Seconds since 0001-01-01 UTC, by the standard library where it can."""
    leap = text[17:19] == "60"
    if "T24" in text:
        return None
    try:
        read = datetime.fromisoformat((text[:17] + "59" + text[19:] if leap else text).upper())
    except ValueError:
        return None
    zone = read.utcoffset()
    naive = read.replace(tzinfo=None) - datetime(1, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    seconds = Fraction(naive.days * 86_400 + naive.seconds) + Fraction(naive.microseconds, 10**6)
    return seconds + leap - (Fraction(int(zone.total_seconds())) if zone is not None else 0)


def is_place(value: Any) -> bool:
    return (
        type(value) is dict
        and type(value.get("lat")) in (int, float)
        and type(value.get("lon")) in (int, float)
        and abs(value["lat"]) <= 90
        and abs(value["lon"]) <= 180
    )


def haversine_m(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    a, b = radians(lat_a), radians(lat_b)
    chord = sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin(radians(lon_b - lon_a) / 2) ** 2
    return 2 * 6_371_008.8 * asin(min(1.0, sqrt(chord)))


def as_json(payload: Any) -> str:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
