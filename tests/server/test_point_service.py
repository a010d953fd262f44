import itertools
import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from nearlight.v1 import (
    collection_pb2,
    embedding_pb2,
    input_pb2,
    model_pb2,
    point_id_pb2,
    point_pb2,
    query_pb2,
    vector_pb2,
)

_names = (f"points-{n}" for n in itertools.count())

Vector = vector_pb2.Vector
PointId = point_id_pb2.PointId


def wire(vector: Any) -> Vector:
    return Vector(data=np.asarray(vector, "<f4").tobytes())


def point(name: str | int, payload: dict[str, Any] | None = None, **source: Any) -> point_pb2.PointInput:
    point_id = PointId(str=name) if isinstance(name, str) else PointId(num=name)
    return point_pb2.PointInput(id=point_id, payload_json=json.dumps(payload or {}).encode(), **source)


def upsert(
    stubs: Any, collection: str, *points: point_pb2.PointInput, **fields: Any
) -> point_pb2.UpsertResponse:
    request = point_pb2.UpsertRequest(collection=collection, points=points, **fields)
    reply: point_pb2.UpsertResponse = stubs.points.Upsert(request)
    return reply


def query(stubs: Any, collection: str, **fields: Any) -> list[query_pb2.Hit]:
    asked = query_pb2.Query(
        **{key: fields.pop(key) for key in ("vector", "text", "image", "id") if key in fields}
    )
    request = query_pb2.QueryRequest(collection=collection, query=asked, **fields)
    return list(stubs.points.Query(request).hits)


def name_of(point_id: PointId) -> str | int:
    return point_id.str if point_id.WhichOneof("id") == "str" else point_id.num


def embed(stubs: Any, **source: Any) -> Any:
    reply = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(**source)]))
    return np.frombuffer(reply.vectors.data, "<f4")


def count(stubs: Any, collection: str) -> int:
    return int(stubs.points.Count(point_pb2.CountRequest(collection=collection)).count)


def test_each_kind_of_source_is_found_by_each_kind_of_query(
    stubs: Any, collection: str, images: list[bytes]
) -> None:
    vector = np.eye(16)[3]
    points = [
        point("v", vector=wire(vector)),
        point("i", image=images[0]),
        point("t", text="a dog"),
        point(7, text="x"),
    ]
    assert upsert(stubs, collection, *points).upserted == 4
    for asked, wanted in (
        ({"vector": wire(5 * vector)}, "v"),
        ({"image": images[0]}, "i"),
        ({"text": "a dog"}, "t"),
        ({"text": "x"}, 7),
    ):
        best = query(stubs, collection, **asked)[0]
        assert name_of(best.id) == wanted
        assert best.score == pytest.approx(1, abs=1e-5)


def test_hits_equal_brute_force(stubs: Any, collection: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 16)).astype(np.float32)
    upsert(stubs, collection, *(point(i, vector=wire(v)) for i, v in enumerate(vectors)))
    asked = rng.normal(size=16).astype(np.float32)
    cosines = vectors @ asked / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked)
    order = np.argsort(-cosines)
    hits = query(stubs, collection, vector=wire(asked), limit=7, offset=3)
    assert [hit.id.num for hit in hits] == list(order[3:10])
    np.testing.assert_allclose([hit.score for hit in hits], cosines[order[3:10]], atol=1e-5)
    threshold = float(cosines[order[4]] + cosines[order[5]]) / 2
    hits = query(stubs, collection, vector=wire(asked), limit=50, score_threshold=threshold)
    assert [hit.id.num for hit in hits] == list(order[:5])


def test_a_query_by_id_leaves_its_own_point_out_and_offset_counts_the_others(
    stubs: Any, collection: str
) -> None:
    vectors = np.random.default_rng(1).normal(size=(20, 16))
    upsert(stubs, collection, *(point(i, vector=wire(v)) for i, v in enumerate(vectors)))
    by_vector = [hit.id.num for hit in query(stubs, collection, vector=wire(vectors[5]), limit=20)]
    others = [number for number in by_vector if number != 5]
    assert by_vector[0] == 5
    asked = {"id": PointId(num=5)}
    assert [hit.id.num for hit in query(stubs, collection, **asked, limit=4)] == others[:4]
    assert [hit.id.num for hit in query(stubs, collection, **asked, limit=4, offset=4)] == others[4:8]
    assert len(query(stubs, collection, **asked, limit=100)) == 19


def test_payload_and_vectors_come_back_as_asked(stubs: Any, collection: str) -> None:
    payload = {"path": "a/b.jpg", "size": 2**60 + 1, "camera": {"model": "X", "iso": 100}, "a.b": [1, None]}
    upsert(stubs, collection, point("p", payload, text="dog"))

    def got(**fields: Any) -> Any:
        [hit] = query(stubs, collection, text="dog", **fields)
        return json.loads(hit.payload_json) if hit.payload_json else None

    def keys(*names: str) -> query_pb2.Keys:
        return query_pb2.Keys(keys=names)

    assert got() == payload
    assert got(with_payload=query_pb2.WithPayload(enable=False)) is None
    include = query_pb2.WithPayload(include=keys("camera.iso", r"a\.b", "none"))
    assert got(with_payload=include) == {"camera": {"iso": 100}, "a.b": [1, None]}
    exclude = query_pb2.WithPayload(exclude=keys("camera.iso", "path", "size"))
    assert got(with_payload=exclude) == {"camera": {"model": "X"}, "a.b": [1, None]}
    [hit] = query(stubs, collection, text="dog", with_vectors=True, dtype=vector_pb2.DTYPE_F16)
    assert hit.vector.dim == 16
    vector = np.frombuffer(hit.vector.data, "<f2").astype(np.float32)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
    [hit] = query(stubs, collection, text="dog")
    assert not hit.HasField("vector")


def test_get_keeps_the_order_and_leaves_out_what_is_not_there(stubs: Any, collection: str) -> None:
    upsert(stubs, collection, point("7", {"a": 1}, text="a"), point(7, {"a": 2}, text="b"))
    ids = [PointId(num=7), PointId(str="no"), PointId(str="7")]
    reply = stubs.points.Get(point_pb2.GetRequest(collection=collection, ids=ids, with_vectors=True))
    assert [(name_of(r.id), json.loads(r.payload_json)) for r in reply.records] == [
        (7, {"a": 2}),
        ("7", {"a": 1}),
    ]
    assert all(len(record.vector.data) == 64 for record in reply.records)
    assert not reply.HasField("next_index")


def test_scroll_sees_every_point_once(stubs: Any, collection: str) -> None:
    names: list[str | int] = [*range(25), *(f"é{n}" for n in range(25))]
    upsert(stubs, collection, *(point(name, text="x") for name in names))
    seen, cursor = [], ""
    while True:
        request = point_pb2.ScrollRequest(collection=collection, limit=7, cursor=cursor)
        reply = stubs.points.Scroll(request)
        seen += [name_of(record.id) for record in reply.records]
        cursor = reply.next_cursor
        if not cursor:
            break
    assert seen[:25] == list(range(25))
    assert sorted(map(str, seen)) == sorted(map(str, names))


def test_replies_are_cut_to_stay_under_the_message_limit(stubs: Any, collection: str) -> None:
    payload = {"text": "x" * 60_000}
    for start in range(0, 100, 50):
        upsert(stubs, collection, *(point(i, payload, text=f"t{i}") for i in range(start, start + 50)))
    reply = stubs.points.Scroll(point_pb2.ScrollRequest(collection=collection, limit=100))
    n = len(reply.records)
    assert 50 < n < 70
    following = stubs.points.Scroll(point_pb2.ScrollRequest(collection=collection, cursor=reply.next_cursor))
    assert [r.id.num for r in (*reply.records, *following.records)] == list(range(100))
    ids = [PointId(num=i) for i in range(100)]
    assert stubs.points.Get(point_pb2.GetRequest(collection=collection, ids=ids)).next_index == n
    asked = query_pb2.Query(text="x")
    answer = stubs.points.Query(query_pb2.QueryRequest(collection=collection, query=asked, limit=100))
    assert answer.next_offset == len(answer.hits) == n


def test_delete_and_count_and_read_your_writes(stubs: Any, collection: str) -> None:
    reply = upsert(stubs, collection, *(point(i, text=str(i)) for i in range(10)))
    request = point_pb2.CountRequest(collection=collection, min_seq=reply.seq)
    assert stubs.points.Count(request).count == 10
    with pytest.raises(grpc.RpcError, match="min_seq is 1010; the collection's last is"):
        stubs.points.Count(point_pb2.CountRequest(collection=collection, min_seq=1010))
    ids = point_id_pb2.PointIds(ids=[PointId(num=3), PointId(num=4), PointId(num=99)])
    selector = point_pb2.PointSelector(ids=ids)
    deleted = stubs.points.Delete(point_pb2.DeleteRequest(collection=collection, points=selector))
    assert deleted.deleted == 2
    assert deleted.seq > reply.seq
    assert count(stubs, collection) == 8
    again = stubs.points.Delete(point_pb2.DeleteRequest(collection=collection, points=selector))
    assert (again.deleted, again.seq) == (0, 0)


def test_bad_points_fail_alone(stubs: Any, collection: str, images: list[bytes]) -> None:
    nan = np.full(16, np.nan)
    points = [
        point("good", image=images[0]),
        point("nan", vector=wire(nan)),
        point("short", vector=wire(np.ones(15))),
        point("zero", vector=wire(np.zeros(16))),
        point("broken", image=images[1][:200]),
        point("", text="no id"),
        point("x" * 513, text="long id"),
        point("nothing"),
        point("blank", text="  "),
        point_pb2.PointInput(id=PointId(str="json"), text="x", payload_json=b'{"a": NaN}'),
        point_pb2.PointInput(id=PointId(str="list"), text="x", payload_json=b"[1]"),
        point_pb2.PointInput(id=PointId(str="big"), text="x", payload_json=b" " * 70_000),
        point_pb2.PointInput(text="no id at all"),
        point("also good", text="dog"),
        point("half", vector=Vector(data=b"abc")),
        point("dim", vector=Vector(data=bytes(64), dim=15)),
    ]
    reply = upsert(stubs, collection, *points)
    assert reply.upserted == 2
    assert [error.index for error in reply.errors] == [i for i in range(len(points)) if i not in (0, 13)]
    assert {error.code for error in reply.errors} == {3}
    said = {error.index: (error.field, error.message) for error in reply.errors}
    for index, field, words in (
        (1, "points[1].vector", "points[1].vector[0] is nan"),
        (2, "points[2].vector", "dim 15; the collection's is 16"),
        (3, "points[3].vector", "all zeros"),
        (4, "points[4].image", "points[4].image: "),
        (5, "points[5].id", "0 bytes; the limit is 1 to 512"),
        (6, "points[6].id", "513 bytes; the limit is 1 to 512"),
        (7, "points[7]", "must hold vector, image or text"),
        (8, "points[8].text", "empty"),
        (9, "points[9].payload_json", "NaN is not JSON"),
        (10, "points[10].payload_json", "must be a JSON object"),
        (11, "points[11].payload_json", "70000 bytes; the limit is 65536"),
        (12, "points[12].id", "is not set"),
        (14, "points[14].vector", "3 bytes; it must be a positive multiple of 4"),
        (15, "points[15].vector", "dim is 15, but data holds 16 numbers"),
    ):
        assert said[index][0] == field
        assert words in said[index][1]
    assert count(stubs, collection) == 2


def stream(collection: str, n: int, images: list[bytes]) -> Iterator[point_pb2.UpsertStreamRequest]:
    for i in range(n):
        target = "missing" if i % 10 == 4 else collection
        batch = point_pb2.UpsertRequest(
            collection=target, points=[point(f"id{i % 40}", {"i": i}, image=images[i % len(images)])]
        )
        yield point_pb2.UpsertStreamRequest(sequence=i, batch=batch)


def test_a_stream_commits_and_acknowledges_in_order(stubs: Any, collection: str, images: list[bytes]) -> None:
    replies = list(stubs.points.UpsertStream(stream(collection, 100, images)))
    assert [reply.sequence for reply in replies] == list(range(100))
    assert [reply.sequence for reply in replies if reply.HasField("error")] == list(range(4, 100, 10))
    assert {reply.error.code for reply in replies if reply.HasField("error")} == {5}
    seqs = [reply.result.seq for reply in replies if reply.HasField("result")]
    assert seqs == sorted(set(seqs))
    # The last write of each id won.
    records = stubs.points.Scroll(point_pb2.ScrollRequest(collection=collection, limit=1000)).records
    for record in records:
        number = json.loads(record.payload_json)["i"]
        later = [i for i in range(number + 1, 100) if i % 40 == number % 40 and i % 10 != 4]
        assert later == []


def test_a_batch_of_queries_fails_one_by_one(stubs: Any, collection: str) -> None:
    upsert(stubs, collection, point("dog", text="dog"), point("cat", text="cat"))
    queries = [
        query_pb2.QueryRequest(query=query_pb2.Query(text="dog"), limit=1),
        query_pb2.QueryRequest(query=query_pb2.Query(text=""), limit=1),
        query_pb2.QueryRequest(query=query_pb2.Query(id=PointId(str="nobody"))),
        query_pb2.QueryRequest(collection="other", query=query_pb2.Query(text="dog")),
        query_pb2.QueryRequest(collection=collection, query=query_pb2.Query(text="cat"), limit=1),
    ]
    reply = stubs.points.QueryBatch(query_pb2.QueryBatchRequest(collection=collection, queries=queries))
    assert [result.error.code for result in reply.results] == [0, 3, 5, 3, 0]
    assert reply.results[0].response.hits[0].id.str == "dog"
    assert reply.results[4].response.hits[0].id.str == "cat"


def test_vectors_of_another_space_never_meet(stubs: Any, images: list[bytes]) -> None:
    name = next(_names)
    stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name=name, model="sigmoid"))
    tiny = stubs.models.GetModel(model_pb2.GetModelRequest())
    with pytest.raises(grpc.RpcError) as caught:
        upsert(stubs, name, point("a", text="dog"), space_id=tiny.space_id)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(grpc.RpcError) as caught:
        query(stubs, name, text="dog", space_id=tiny.space_id)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    # Its own model embeds for it, not the default one.
    upsert(stubs, name, point("a", text="dog"))
    [hit] = query(stubs, name, text="dog", with_vectors=True)
    assert hit.score == pytest.approx(1, abs=1e-5)
    assert float(embed(stubs, text="dog") @ np.frombuffer(hit.vector.data, "<f4")) < 0.9


def test_a_custom_space_takes_vectors_and_refuses_texts(stubs: Any) -> None:
    name = next(_names)
    space = collection_pb2.Space(space_id="my-own", dim=3)
    stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name=name, custom_space=space))
    assert upsert(stubs, name, point(1, vector=wire([1, 0, 0]))).upserted == 1
    assert query(stubs, name, vector=wire([1, 1, 0]))[0].score == pytest.approx(0.5**0.5, abs=1e-6)
    with pytest.raises(grpc.RpcError, match="no loaded model makes vectors of it") as caught:
        query(stubs, name, text="dog")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
