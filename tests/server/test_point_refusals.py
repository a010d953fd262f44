"""What PointService refuses, and how it says so."""

from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest

from nearlight.v1 import point_id_pb2, point_pb2, query_pb2, vector_pb2

Vector = vector_pb2.Vector
PointId = point_id_pb2.PointId


def point(number: int) -> point_pb2.PointInput:
    return point_pb2.PointInput(id=PointId(num=number), text="x")


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"limit": 0}, INVALID, "limit is 0; the limit is 1 to 10000"),
        ({"limit": 10**9}, INVALID, "limit is 1000000000; the limit is 1 to 10000"),
        ({"limit": 9_000, "offset": 2_000}, INVALID, "limit + offset is 9000 + 2000; the limit is 10000"),
        ({"score_threshold": 1.5}, INVALID, "score_threshold is 1.5; the limit is -1 to 1"),
        ({"score_threshold": float("nan")}, INVALID, "score_threshold is nan"),
        ({"dtype": 7}, INVALID, "dtype is 7"),
        ({"query": query_pb2.Query()}, INVALID, "query is empty"),
        ({"query": query_pb2.Query(text="")}, INVALID, "query.text: text is empty"),
        ({"query": query_pb2.Query(vector=Vector(data=bytes(60)))}, INVALID, "query.vector has dim 15"),
        ({"query": query_pb2.Query(vector=Vector(data=bytes(64)))}, INVALID, "query.vector is all zeros"),
        (
            {"query": query_pb2.Query(id=PointId(str="no"))},
            grpc.StatusCode.NOT_FOUND,
            "query.id 'no' is not in",
        ),
        ({"query": query_pb2.Query(mix=query_pb2.Mix())}, INVALID, "positive and negative holds 0 items"),
        ({"filter": {"must": [{}]}}, INVALID, "filter.must[0] is empty"),
        ({"mmr": query_pb2.Mmr(diversity=1.5)}, INVALID, "mmr.diversity is 1.5; the limit is 0 to 1"),
        ({"mmr": query_pb2.Mmr(candidates=9)}, INVALID, "mmr.candidates is 9; the limit is 10"),
        ({"autocut": query_pb2.Autocut(jumps=11)}, INVALID, "autocut.jumps is 11; the limit is 1 to 10"),
        ({"min_relevance": 1.5}, INVALID, "min_relevance is 1.5; the limit is 0 to 1"),
        ({"min_relevance": float("nan")}, INVALID, "min_relevance is nan"),
        ({"min_relevance": 0.5}, grpc.StatusCode.FAILED_PRECONDITION, "min_relevance needs a calibrated"),
        ({"collection": ""}, INVALID, "collection is empty"),
        ({"collection": "nowhere"}, grpc.StatusCode.NOT_FOUND, "nowhere"),
    ],
)
def test_what_query_refuses(
    stubs: Any, collection: str, fields: dict[str, Any], code: grpc.StatusCode, words: str
) -> None:
    request = query_pb2.QueryRequest(
        **{"collection": collection, "query": query_pb2.Query(text="x"), **fields}
    )
    with pytest.raises(grpc.RpcError) as caught:
        stubs.points.Query(request)
    assert caught.value.code() is code
    assert words in str(caught.value.details())


@pytest.mark.parametrize(
    ("call", "request_of", "code", "words"),
    [
        ("Upsert", lambda c: point_pb2.UpsertRequest(collection=c), INVALID, "points holds 0 items"),
        (
            "Upsert",
            lambda c: point_pb2.UpsertRequest(collection=c, points=[point(1)], mode=cast(Any, 9)),
            INVALID,
            "mode is 9, which has no meaning",
        ),
        (
            "Upsert",
            lambda c: point_pb2.UpsertRequest(collection=c, points=[point(1)], skip_duplicates_bits=33),
            INVALID,
            "skip_duplicates_bits is 33; it must be 0 to 32",
        ),
        (
            "FindDuplicates",
            lambda c: point_pb2.FindDuplicatesRequest(collection=c, min_score=1.5),
            INVALID,
            "min_score is 1.5; it must be above 0 and at most 1",
        ),
        (
            "FindDuplicates",
            lambda c: point_pb2.FindDuplicatesRequest(collection=c, max_distance_bits=3),
            INVALID,
            "max_distance_bits has no meaning with method DUPLICATE_METHOD_UNSPECIFIED",
        ),
        (
            "FindDuplicates",
            lambda c: point_pb2.FindDuplicatesRequest(collection=c, page_token="abc.0"),
            INVALID,
            "page_token is 'abc.0'; it is not one this server gave, or no more",
        ),
        ("Delete", lambda c: point_pb2.DeleteRequest(collection=c), INVALID, "points is empty"),
        (
            "Delete",
            lambda c: point_pb2.DeleteRequest(collection=c, points={"filter": {"must": [{}]}}),
            INVALID,
            "points.filter.must[0] is empty",
        ),
        ("Get", lambda c: point_pb2.GetRequest(collection=c), INVALID, "ids holds 0 items"),
        (
            "Get",
            lambda c: point_pb2.GetRequest(collection=c, ids=[PointId(str="x" * 513)]),
            INVALID,
            "ids[0].str has 513 bytes; the limit is 1 to 512",
        ),
        (
            "Scroll",
            lambda c: point_pb2.ScrollRequest(collection=c, limit=10**9),
            INVALID,
            "the limit is 1 to 10000",
        ),
        ("Scroll", lambda c: point_pb2.ScrollRequest(collection=c, cursor="{"), INVALID, "cursor is '{'"),
        (
            "Scroll",
            lambda c: point_pb2.ScrollRequest(collection=c, order_by={}),
            INVALID,
            "order_by.key has 0 bytes",
        ),
        (
            "Scroll",
            lambda c: point_pb2.ScrollRequest(collection=c, order_by={"key": "a"}, cursor="7"),
            INVALID,
            "it must be a next_cursor of this order",
        ),
        (
            "Scroll",
            lambda c: point_pb2.ScrollRequest(collection=c, order_by={"key": "a"}, cursor='[2, 1, "x"]'),
            INVALID,
            "it must be a next_cursor of this order",
        ),
        ("Count", lambda c: point_pb2.CountRequest(collection=c, filter={"must": [{}]}), INVALID, "filter"),
        (
            "SetPayload",
            lambda c: point_pb2.SetPayloadRequest(collection=c),
            INVALID,
            "points is empty",
        ),
        ("QueryBatch", lambda c: query_pb2.QueryBatchRequest(collection=c), INVALID, "queries holds 0 items"),
    ],
)
def test_what_other_calls_refuse(
    stubs: Any,
    collection: str,
    call: str,
    request_of: Callable[[str], Any],
    code: grpc.StatusCode,
    words: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stubs.points, call)(request_of(collection))
    assert caught.value.code() is code
    assert words in str(caught.value.details())
