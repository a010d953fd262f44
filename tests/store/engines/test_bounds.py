import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nearlight.store.engines.bounds import bounds_of
from nearlight.store.engines.expressions import negated
from nearlight.store.engines.facets import facets_of
from nearlight.store.filters import conditions as c
from nearlight.store.filters.checks import check_filter
from tests.store.engines.meaning import holds
from tests.store.filters import oracle


def must(test: Any, key: str = "k") -> c.Filter:
    return c.Filter(must=(c.Field((key,), test),))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(oracle.filters, st.sampled_from(oracle.IDS), oracle.payloads)
@example(must(c.Range(gt=2.0**53)), 1, {"k": 2**53 + 1})
@example(must(c.Range(lte=float(2**53))), 1, {"k": 2**53 + 1})
@example(must(c.IntegerRange(gt=1, lt=3)), 1, {"k": [2.5, 0]})
@example(must(c.ExceptKeyword(frozenset("x"))), 1, {"k": ["x", "y"]})
@example(must(c.Range(gt=1.0, lt=2.0)), 1, {"k": [0, 3]})
@example(must(c.Prefix("xyzxq")), 1, {"k": "xyzxyz"})
@example(must(c.Prefix("xyzxy")), 1, {"k": "xyzxyz"})
def test_a_filter_lies_between_its_bounds(filter: c.Filter, point_id: str | int, payload: Any) -> None:
    check_filter(filter)
    payload = json.loads(json.dumps(payload))
    facets, bounds = facets_of(payload), bounds_of(filter)
    passes = oracle.passes(filter, point_id, payload)
    lower, upper = (holds(one, point_id, facets) for one in (bounds.lower, bounds.upper))
    assert lower <= passes <= upper
    assert holds(negated(bounds.lower), point_id, facets) == (not lower)
    assert holds(negated(bounds.upper), point_id, facets) == (not upper)
    assert bounds.is_exact or bounds.doubts


SIMPLE = [
    must(c.Keyword("x")),
    must(c.AnyKeyword(frozenset({"x", "y"}))),
    must(c.Integer(3)),
    must(c.AnyInteger(frozenset({3, 4}))),
    must(c.Boolean(True)),
    must(c.Range(gte=0.5)),
    must(c.Prefix("ab")),
    must(c.DatetimeRange(lt="2026-11-23T08:00:00Z")),
    must(c.ValuesCount(c.IntegerRange(gte=2))),
    c.Filter(must_not=(c.IsEmpty(("k",)), c.IsNull(("k",)), c.HasId(frozenset({1, "1"})))),
]


@pytest.mark.parametrize("filter", SIMPLE, ids=str)
def test_everyday_filters_leave_nothing_to_judge(filter: c.Filter) -> None:
    assert bounds_of(filter).is_exact


@pytest.mark.parametrize("value", [0, 3, 7.5, 1.0, 9, "x", True, None, {"a": 1}, [3], []])
@pytest.mark.parametrize(
    "test",
    [
        c.Range(gt=1.0, lt=8.0),
        c.IntegerRange(gte=1, lte=7),
        c.ExceptKeyword(frozenset({"x"})),
        c.ExceptInteger(frozenset({3})),
        c.ValuesCount(c.IntegerRange(gte=0, lte=1)),
    ],
    ids=str,
)
def test_of_a_single_value_nothing_is_left_to_judge(test: Any, value: Any) -> None:
    facets, bounds = facets_of({"k": value}), bounds_of(must(test))
    assert holds(bounds.lower, 1, facets) == holds(bounds.upper, 1, facets)


@settings(deadline=None)
@given(st.floats(-70, 70), st.floats(-150, 150), st.floats(10, 400_000))
def test_most_of_a_circle_is_sure(lat: float, lon: float, radius_m: float) -> None:
    bounds = bounds_of(must(c.GeoRadius(c.GeoPoint(lat, lon), radius_m)))
    near = radius_m / 111_200 / 2  # degrees; half of the radius to the north
    facets = facets_of({"k": {"lat": lat + near, "lon": lon}})
    assert holds(bounds.lower, 1, facets)
    far = facets_of({"k": {"lat": lat + 3 * near, "lon": lon}})
    assert not holds(bounds.upper, 1, far)


def test_doubts_name_the_condition() -> None:
    bounds = bounds_of(must(c.GeoRadius(c.GeoPoint(0, 0), 100.0), "place"))
    assert bounds.doubts == {"GeoRadius on 'place'"}
