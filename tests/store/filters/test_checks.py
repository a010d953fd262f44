import math
from typing import Any

import pytest

from nearlight.store import InvalidQuery
from nearlight.store.filters import conditions as c
from nearlight.store.filters.checks import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, check_filter


def field(test: Any) -> c.Filter:
    return c.Filter(must=(c.Field(("k",), test),))


def nested(levels: int) -> c.Filter:
    made = c.Filter(must=(c.IsNull(("k",)),))
    for _ in range(levels - 1):
        made = c.Filter(must=(made,))
    return made


@pytest.mark.parametrize(
    ("filter", "where", "words"),
    [
        (nested(MAX_DEPTH + 1), "filter" + ".must[0].filter" * MAX_DEPTH, "nested 9 deep; the limit is 8"),
        (c.Filter(should=(c.IsNull(("k",)),) * 257), "filter", "more than 256 conditions; the limit is 256"),
        (c.Filter(min_should=-1), "filter.min_should", "-1"),
        (c.Filter(must_not=(c.IsNull(()),)), "filter.must_not[0].is_null", "0 parts; the limit is 1 to 16"),
        (c.Filter(must=(c.IsEmpty(("k",) * 17),)), "filter.must[0].is_empty", "17 parts"),
        (c.Filter(must=(c.IsEmpty(("é" * 257,)),)), "filter.must[0].is_empty", "514 bytes long"),
        (c.Filter(must=(c.IsEmpty(("",)),)), "filter.must[0].is_empty", "0 bytes long"),
        (c.Filter(must=(c.IsEmpty(("\ud800",)),)), "filter.must[0].is_empty", "surrogates"),
        (c.Filter(must=(c.HasId(frozenset({""})),)), "filter.must[0].has_id.ids", "0 bytes long"),
        (c.Filter(must=(c.HasId(frozenset({-1})),)), "filter.must[0].has_id.ids", "-1"),
        (field(c.Range(gt=math.nan)), "filter.must[0].field.range.gt", "nan"),
        (field(c.Range(lte=10**30)), "filter.must[0].field.range.lte", "64 bits"),
        (field(c.Integer(2**63)), "filter.must[0].field.match.integer", "64 bits"),
        (field(c.Integer(True)), "filter.must[0].field.match.integer", "True"),
        (field(c.Keyword("\udfff")), "filter.must[0].field.match.keyword", "surrogates"),
        (
            field(c.AnyInteger(frozenset(range(MAX_VALUES + 1)))),
            "filter.must[0].field.match.any_integer",
            "10001",
        ),
        (field(c.DatetimeRange(lt="soon")), "filter.must[0].field.datetime_range.lt", "RFC 3339"),
        (field(c.DatetimeRange(gte="2026-02-30")), "filter.must[0].field.datetime_range.gte", "2026-02-30"),
        (field(c.GeoRadius(c.GeoPoint(91, 0), 1)), "filter.must[0].field.geo_radius.center.lat", "-90 to 90"),
        (field(c.GeoRadius(c.GeoPoint(0, 0), 0)), "filter.must[0].field.geo_radius.radius_m", "above 0"),
        (
            field(c.GeoRadius(c.GeoPoint(0, 0), math.inf)),
            "filter.must[0].field.geo_radius.radius_m",
            "finite",
        ),
        (
            field(c.GeoBox(c.GeoPoint(0, 0), c.GeoPoint(1, 1))),
            "filter.must[0].field.geo_box.top_left.lat",
            "1",
        ),
    ],
)
def test_a_bad_filter_is_refused_by_name_value_and_limit(filter: c.Filter, where: str, words: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        check_filter(filter)
    assert caught.value.field.startswith(where)
    assert words in str(caught.value)


def test_the_limits_themselves_are_allowed() -> None:
    check_filter(nested(MAX_DEPTH))
    check_filter(c.Filter(should=(c.IsNull(("k",) * 16),) * MAX_CONDITIONS, min_should=300))
    check_filter(c.Filter(must=(c.Field(("é" * 256,), c.Range(gt=-math.inf, lt=5)),)))
    check_filter(field(c.AnyInteger(frozenset(range(MAX_VALUES)))))
