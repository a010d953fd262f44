"""Filters and changes of payloads, over a real channel."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from nearlight.v1 import collection_pb2, filter_pb2, point_id_pb2, point_pb2, query_pb2, vector_pb2
from nearlight.v1.filter_pb2 import Condition, FieldCondition, Filter, Match

_names = (f"filters-{n}" for n in itertools.count())
INVALID = grpc.StatusCode.INVALID_ARGUMENT
VECTORS = np.random.default_rng(3).standard_normal((40, 16)).astype("<f4")
PLACES = [{"lat": 52.52, "lon": 13.405}, {"lat": 48.857, "lon": 2.352}]
PAYLOADS: list[dict[str, Any]] = [
    {
        "n": i,
        "big": 2**53 + i,
        "share": i / 40,
        "tags": ["even" if i % 2 == 0 else "odd", f"t{i % 5}"],
        "camera": {"model": f"m{i % 4}"},
        "at": f"2026-11-{1 + i % 28:02}T08:00:00Z",
        "where": PLACES[i % 2],
        "flag": i < 10,
        **({"note": None} if i % 3 == 0 else {}),
    }
    for i in range(40)
]


def fill(stubs: Any) -> str:
    name = next(_names)
    stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name=name))
    points = [
        point_pb2.PointInput(
            id=point_id_pb2.PointId(num=i),
            vector=vector_pb2.Vector(data=VECTORS[i].tobytes()),
            payload_json=json.dumps(payload).encode(),
        )
        for i, payload in enumerate(PAYLOADS)
    ]
    for at in range(0, 40, 20):
        reply = stubs.points.Upsert(point_pb2.UpsertRequest(collection=name, points=points[at : at + 20]))
        assert reply.upserted == 20
    return name


@pytest.fixture
def collection(stubs: Any) -> str:
    return fill(stubs)


@pytest.fixture(scope="module")
def shared_collection(stubs: Any) -> str:
    """For tests that change nothing."""
    return fill(stubs)


def field(key: str, **test: Any) -> Condition:
    return Condition(field=FieldCondition(key=key, **test))


def must(*conditions: Condition) -> Filter:
    return Filter(must=conditions)


def keyword(key: str, text: str) -> Condition:
    return field(key, match=Match(keyword=text))


CASES: list[tuple[Filter, Callable[[int, dict[str, Any]], bool]]] = [
    (must(keyword("tags", "odd")), lambda i, p: i % 2 == 1),
    (must(keyword("camera.model", "m3")), lambda i, p: i % 4 == 3),
    (must(field("n", match=Match(integer=7))), lambda i, p: i == 7),
    (must(field("flag", match=Match(boolean=True))), lambda i, p: i < 10),
    (must(field("flag", match=Match(integer=1))), lambda i, p: False),
    (
        must(field("tags", match=Match(any_keyword=filter_pb2.Strings(values=["t1", "t2"])))),
        lambda i, p: i % 5 in (1, 2),
    ),
    (
        must(field("n", match=Match(any_integer=filter_pb2.Integers(values=[3, 5, 99])))),
        lambda i, p: i in (3, 5),
    ),
    (
        must(field("camera.model", match=Match(except_keyword=filter_pb2.Strings(values=["m0"])))),
        lambda i, p: i % 4 != 0,
    ),
    (
        must(field("n", match=Match(except_integer=filter_pb2.Integers(values=list(range(35)))))),
        lambda i, p: i >= 35,
    ),
    (must(field("at", match=Match(prefix="2026-11-0"))), lambda i, p: i % 28 < 9),
    (must(field("share", range=filter_pb2.Range(gte=0.25, lt=0.5))), lambda i, p: 10 <= i < 20),
    (
        must(field("big", integer_range=filter_pb2.IntegerRange(gt=2**53 + 1, lte=2**53 + 3))),
        lambda i, p: i in (2, 3),
    ),
    (
        must(
            field(
                "at",
                datetime_range=filter_pb2.DatetimeRange(gte="2026-11-03T09:00:00+01:00", lt="2026-11-05"),
            )
        ),
        lambda i, p: i % 28 in (2, 3),
    ),
    (
        must(
            field(
                "where",
                geo_radius=filter_pb2.GeoRadius(
                    center=filter_pb2.GeoPoint(lat=52.5, lon=13.4), radius_m=5000
                ),
            )
        ),
        lambda i, p: i % 2 == 0,
    ),
    (
        must(
            field(
                "where",
                geo_box=filter_pb2.GeoBox(
                    top_left=filter_pb2.GeoPoint(lat=50, lon=0),
                    bottom_right=filter_pb2.GeoPoint(lat=40, lon=5),
                ),
            )
        ),
        lambda i, p: i % 2 == 1,
    ),
    (must(field("tags", values_count=filter_pb2.IntegerRange(gt=2))), lambda i, p: False),
    (must(Condition(is_empty="note")), lambda i, p: True),
    (must(Condition(is_null="note")), lambda i, p: i % 3 == 0),
    (
        must(
            Condition(
                has_id=point_id_pb2.PointIds(ids=[point_id_pb2.PointId(num=4), point_id_pb2.PointId(str="5")])
            )
        ),
        lambda i, p: i == 4,
    ),
    (
        Filter(
            must=[
                Condition(filter=Filter(should=[keyword("tags", "t0"), keyword("tags", "odd")], min_should=2))
            ],
            must_not=[field("n", range=filter_pb2.Range(lt=10))],
        ),
        lambda i, p: i >= 10 and i % 5 == 0 and i % 2 == 1,
    ),
    (Filter(), lambda i, p: True),
]


@pytest.mark.parametrize(("filter", "expected"), CASES)
def test_query_batch_scroll_and_count_agree_on_what_passes(
    stubs: Any, shared_collection: str, filter: Filter, expected: Callable[[int, dict[str, Any]], bool]
) -> None:
    passing = [i for i, payload in enumerate(PAYLOADS) if expected(i, payload)]
    request: dict[str, Any] = {"collection": shared_collection, "filter": filter}
    assert stubs.points.Count(point_pb2.CountRequest(**request)).count == len(passing)
    scrolled, cursor = [], ""
    while True:
        page = stubs.points.Scroll(point_pb2.ScrollRequest(**request, limit=7, cursor=cursor))
        scrolled += [record.id.num for record in page.records]
        cursor = page.next_cursor
        if not cursor:
            break
    assert scrolled == passing
    query = query_pb2.Query(vector=vector_pb2.Vector(data=VECTORS[0].tobytes()))
    asked = query_pb2.QueryRequest(**request, query=query, limit=5)
    reply = stubs.points.Query(asked)
    scores = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)) @ VECTORS[0]
    assert [hit.id.num for hit in reply.hits] == sorted(passing, key=lambda i: -scores[i])[:5]
    if filter.ByteSize():
        assert reply.info.filtered_count == len(passing)
    assert reply.info.exact
    batch = stubs.points.QueryBatch(
        query_pb2.QueryBatchRequest(collection=shared_collection, queries=[asked] * 2)
    )
    assert [list(one.response.hits) for one in batch.results] == [list(reply.hits)] * 2


def test_a_point_asked_with_is_left_out_of_its_own_filtered_hits(stubs: Any, collection: str) -> None:
    request = query_pb2.QueryRequest(
        collection=collection,
        query=query_pb2.Query(id=point_id_pb2.PointId(num=3)),
        filter=must(field("n", range=filter_pb2.Range(lt=6))),
    )
    assert sorted(hit.id.num for hit in stubs.points.Query(request).hits) == [0, 1, 2, 4, 5]


def deep(levels: int) -> Filter:
    made = must(Condition(is_null="k"))
    for _ in range(levels - 1):
        made = must(Condition(filter=made))
    return made


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        (must(Condition()), "filter.must[0] is empty; it must hold exactly one of field, has_id"),
        (must(field("k")), "filter.must[0].field is empty; it must hold exactly one of match, range"),
        (
            must(field("k", match=Match())),
            "filter.must[0].field.match is empty; it must hold exactly one of keyword",
        ),
        (must(keyword("", "x")), "filter.must[0].field.key has 0 bytes; the limit is 1 to 512"),
        (must(keyword(".".join("k" * 17), "x")), "17 parts; the limit is 1 to 16"),
        (must(field("k", range=filter_pb2.Range(gt=float("nan")))), "filter.must[0].field.range.gt is nan"),
        (must(field("k", datetime_range=filter_pb2.DatetimeRange(lt="soon"))), "datetime_range.lt is 'soon'"),
        (must(field("k", geo_radius=filter_pb2.GeoRadius(radius_m=1))), "geo_radius.center is not set"),
        (
            must(Condition(has_id=point_id_pb2.PointIds(ids=[point_id_pb2.PointId()]))),
            "has_id.ids[0] is not set",
        ),
        (Filter(should=[Condition(is_null="k")] * 257), "more than 256 conditions; the limit is 256"),
        (deep(9), "nested 9 deep; the limit is 8"),
        (deep(40), "deep; the limit is 8"),
        (
            must(field("k", match=Match(any_integer=filter_pb2.Integers(values=range(10_001))))),
            "10001 values; the limit is 10000",
        ),
    ],
)
def test_a_bad_filter_is_refused_by_every_call(
    stubs: Any, shared_collection: str, filter: Filter, words: str
) -> None:
    name = shared_collection
    query = query_pb2.Query(text="a dog")
    selector = point_pb2.PointSelector(filter=filter)
    calls: list[Callable[[], Any]] = [
        lambda: stubs.points.Query(query_pb2.QueryRequest(collection=name, query=query, filter=filter)),
        lambda: stubs.points.Scroll(point_pb2.ScrollRequest(collection=name, filter=filter)),
        lambda: stubs.points.Count(point_pb2.CountRequest(collection=name, filter=filter)),
        lambda: stubs.points.Delete(point_pb2.DeleteRequest(collection=name, points=selector)),
        lambda: stubs.points.SetPayload(
            point_pb2.SetPayloadRequest(collection=name, points=selector, payload_json=b'{"a":1}')
        ),
        lambda: stubs.points.DeletePayload(
            point_pb2.DeletePayloadRequest(collection=name, points=selector, all=True)
        ),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is INVALID
        assert words in str(caught.value.details())
    request = query_pb2.QueryRequest(query=query, filter=filter)
    batch = stubs.points.QueryBatch(query_pb2.QueryBatchRequest(collection=name, queries=[request]))
    assert batch.results[0].error.code == INVALID.value[0]
    assert stubs.points.Count(point_pb2.CountRequest(collection=name)).count == 40


def test_payloads_are_set_replaced_and_removed(stubs: Any, collection: str) -> None:
    def payload(i: int) -> Any:
        ids = [point_id_pb2.PointId(num=i)]
        [record] = stubs.points.Get(point_pb2.GetRequest(collection=collection, ids=ids)).records
        return json.loads(record.payload_json)

    def change(which: str, points: point_pb2.PointSelector, **wish: Any) -> point_pb2.PayloadResponse:
        kind = {"SetPayload": point_pb2.SetPayloadRequest, "DeletePayload": point_pb2.DeletePayloadRequest}[
            which
        ]
        reply: point_pb2.PayloadResponse = getattr(stubs.points, which)(
            kind(collection=collection, points=points, **wish)
        )
        return reply

    two = point_pb2.PointSelector(
        ids=point_id_pb2.PointIds(ids=[point_id_pb2.PointId(num=n) for n in (1, 2, 777)])
    )
    odd = point_pb2.PointSelector(filter=must(keyword("tags", "odd")))
    reply = change("SetPayload", two, payload_json=b'{"stars": 5, "n": 9007199254740993}')
    assert reply.updated == 2
    assert reply.seq == stubs.points.Count(point_pb2.CountRequest(collection=collection)).visible_seq
    assert payload(1) == {**PAYLOADS[1], "stars": 5, "n": 2**53 + 1}
    assert change("SetPayload", odd, payload_json=b'{"lens": "50mm"}', key="camera").updated == 20
    assert payload(3) == {**PAYLOADS[3], "camera": {"model": "m3", "lens": "50mm"}}
    assert change("DeletePayload", odd, keys=["camera.model", "nope"]).updated == 20
    assert payload(3)["camera"] == {"lens": "50mm"}
    assert change("SetPayload", two, payload_json=b'{"only": 1}', replace=True).updated == 2
    assert payload(2) == {"only": 1}
    assert change("DeletePayload", two, all=True).updated == 2
    assert payload(2) == {}
    again = change("DeletePayload", two, all=True)
    assert (again.seq, again.updated) == (0, 0)
    query = query_pb2.Query(vector=vector_pb2.Vector(data=VECTORS[2].tobytes()))
    found = stubs.points.Query(query_pb2.QueryRequest(collection=collection, query=query, limit=1)).hits[0]
    assert (found.id.num, round(found.score, 5)) == (2, 1.0)


@pytest.mark.parametrize(
    ("call", "wish", "words"),
    [
        ("SetPayload", {}, "payload_json is empty; it must hold a JSON object"),
        ("SetPayload", {"payload_json": b"[1]"}, "it must be a JSON object"),
        ("SetPayload", {"payload_json": b'{"a": NaN}'}, "not valid JSON"),
        ("SetPayload", {"payload_json": b"{}", "points": None}, "points is empty"),
        (
            "SetPayload",
            {"payload_json": b"{}", "key": "k" * 513},
            "key is 513 bytes long; the limit is 1 to 512",
        ),
        ("DeletePayload", {}, "keys holds 0 items"),
        ("DeletePayload", {"keys": ["a"], "all": True}, "all is true and keys holds 1 items"),
        ("DeletePayload", {"keys": [""]}, "keys[0] is 0 bytes long"),
    ],
)
def test_a_bad_change_is_refused(
    stubs: Any, shared_collection: str, call: str, wish: dict[str, Any], words: str
) -> None:
    one = point_pb2.PointSelector(ids=point_id_pb2.PointIds(ids=[point_id_pb2.PointId(num=1)]))
    kind: Any = {"SetPayload": point_pb2.SetPayloadRequest, "DeletePayload": point_pb2.DeletePayloadRequest}[
        call
    ]
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stubs.points, call)(kind(**{"collection": shared_collection, "points": one, **wish}))
    assert caught.value.code() is INVALID
    assert words in str(caught.value.details())


def test_points_are_deleted_by_filter(stubs: Any, collection: str) -> None:
    selector = point_pb2.PointSelector(filter=must(keyword("tags", "odd")))
    request = point_pb2.DeleteRequest(collection=collection, points=selector)
    assert stubs.points.Delete(request).deleted == 20
    assert stubs.points.Delete(request) == point_pb2.DeleteResponse()
    assert stubs.points.Count(point_pb2.CountRequest(collection=collection)).count == 20
