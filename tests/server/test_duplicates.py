"""Duplicates and terms of writing over the wire: from encoded pictures to groups."""

import io
import json
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from nearlight.v1 import collection_pb2, point_pb2
from nearlight.v1.point_id_pb2 import PointId

PERCEPTUAL = point_pb2.DUPLICATE_METHOD_PERCEPTUAL


def smooth(seed: int, kind: str = "PNG", side: int = 96, **how: Any) -> bytes:
    """A picture of soft blobs, the same for a seed in every format and size."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(file, kind, **how)
    return file.getvalue()


def picture(name: str, content: bytes) -> point_pb2.PointInput:
    return point_pb2.PointInput(id=PointId(str=name), image=content, payload_json=b'{"n":1}')


def groups_of(stubs: Any, collection: str, **how: Any) -> list[list[str]]:
    found, token = [], ""
    while True:
        request = point_pb2.FindDuplicatesRequest(collection=collection, page_token=token, **how)
        reply = stubs.points.FindDuplicates(request)
        found += [[hit.id.str for hit in group.points] for group in reply.groups]
        token = reply.next_page_token
        if not token:
            return found


@pytest.fixture
def pictures(stubs: Any, collection: str) -> str:
    """Three pictures; of the first there are two copies, of the second one."""
    points = [
        picture("a", smooth(1)),
        picture("b", smooth(2)),
        picture("c", smooth(3)),
        picture("b small", smooth(2, side=70)),
        picture("a jpeg", smooth(1, "JPEG", quality=60)),
        picture("a large", smooth(1, side=150)),
    ]
    reply = stubs.points.Upsert(point_pb2.UpsertRequest(collection=collection, points=points))
    assert reply.upserted == 6
    return collection


def test_copies_of_a_picture_are_one_group_oldest_first(stubs: Any, pictures: str) -> None:
    assert groups_of(stubs, pictures, method=PERCEPTUAL) == [["a", "a jpeg", "a large"], ["b", "b small"]]
    reply = stubs.points.FindDuplicates(
        point_pb2.FindDuplicatesRequest(
            collection=pictures, method=PERCEPTUAL, with_payload={"enable": False}
        )
    )
    first = reply.groups[0].points
    assert first[0].score == 1
    assert all(0 <= 64 * (1 - hit.score) <= 4 * len(first) for hit in first)
    assert [hit.payload_json for hit in first] == [b""] * 3


def test_near_vectors_are_one_group(stubs: Any, collection: str) -> None:
    rows = np.eye(16, dtype=np.float32)[[0, 1, 0, 1, 2]] + 0.01
    points = [
        point_pb2.PointInput(id=PointId(str=str(i)), vector={"data": row.tobytes()})
        for i, row in enumerate(rows)
    ]
    stubs.points.Upsert(point_pb2.UpsertRequest(collection=collection, points=points))
    assert groups_of(stubs, collection) == [["0", "2"], ["1", "3"]]
    some = {"must": [{"has_id": {"ids": [{"str": "1"}, {"str": "3"}]}}]}
    assert groups_of(stubs, collection, filter=some) == [["1", "3"]]
    assert groups_of(stubs, collection, min_score=0.01) == [["0", "1", "2", "3", "4"]]
    assert groups_of(stubs, collection, method=PERCEPTUAL) == []  # no pictures, no hashes


def test_pages_show_one_search_whatever_is_written_meanwhile(stubs: Any, pictures: str) -> None:
    request = point_pb2.FindDuplicatesRequest(collection=pictures, method=PERCEPTUAL, page_size=1)
    first = stubs.points.FindDuplicates(request)
    assert [len(group.points) for group in first.groups] == [3]
    stubs.points.Upsert(point_pb2.UpsertRequest(collection=pictures, points=[picture("c too", smooth(3))]))
    request.page_token = first.next_page_token
    second = stubs.points.FindDuplicates(request)
    assert [[hit.id.str for hit in group.points] for group in second.groups] == [["b", "b small"]]
    assert not second.next_page_token
    assert len(groups_of(stubs, pictures, method=PERCEPTUAL, page_size=1)) == 3


def test_a_group_whose_points_went_is_left_out_of_its_page(stubs: Any, pictures: str) -> None:
    request = point_pb2.FindDuplicatesRequest(collection=pictures, method=PERCEPTUAL, page_size=1)
    request.page_token = stubs.points.FindDuplicates(request).next_page_token
    stubs.points.Delete(
        point_pb2.DeleteRequest(collection=pictures, points={"ids": {"ids": [{"str": "b small"}]}})
    )
    assert list(stubs.points.FindDuplicates(request).groups) == []


def test_pictures_that_look_alike_are_not_written_where_the_caller_says_so(stubs: Any, pictures: str) -> None:
    request = point_pb2.UpsertRequest(
        collection=pictures,
        points=[
            picture("new", smooth(9)),
            picture("a again", smooth(1, side=200)),
            picture("bad", b"no picture"),
            picture("new again", smooth(9, "JPEG", quality=80)),
            picture("c", smooth(2)),  # there already: an update
        ],
        skip_duplicates_bits=4,
    )
    reply = stubs.points.Upsert(request)
    assert reply.upserted == 2
    assert [(one.index, one.code, one.field) for one in reply.errors] == [
        (1, grpc.StatusCode.ALREADY_EXISTS.value[0], "points[1].image"),
        (2, grpc.StatusCode.INVALID_ARGUMENT.value[0], "points[2].image"),
        (3, grpc.StatusCode.ALREADY_EXISTS.value[0], "points[3].image"),
    ]
    assert "points[1].image looks like point 'a" in reply.errors[0].message
    assert "points[3].image looks like point 'new' (" in reply.errors[2].message
    ids = [PointId(str=name) for name in ("new", "a again", "new again")]
    found = stubs.points.Get(point_pb2.GetRequest(collection=pictures, ids=ids))
    assert [record.id.str for record in found.records] == ["new"]


@pytest.mark.parametrize(
    ("mode", "errors", "values"),
    [
        (point_pb2.UPSERT_MODE_INSERT_ONLY, {0: "ALREADY_EXISTS", 2: "ALREADY_EXISTS"}, {"old": 0, "new": 1}),
        (point_pb2.UPSERT_MODE_UPDATE_ONLY, {1: "NOT_FOUND"}, {"old": 2}),
        (point_pb2.UPSERT_MODE_UPSERT, {}, {"old": 2, "new": 1}),
    ],
)
def test_insert_only_and_update_only(
    stubs: Any, collection: str, mode: Any, errors: dict[int, str], values: dict[str, int]
) -> None:
    def point(name: str, value: int) -> point_pb2.PointInput:
        text = json.dumps({"value": value}).encode()
        return point_pb2.PointInput(id=PointId(str=name), text="dog", payload_json=text)

    stubs.points.Upsert(point_pb2.UpsertRequest(collection=collection, points=[point("old", 0)]))
    points = [point("old", 0), point("new", 1), point("old", 2)]
    reply = stubs.points.Upsert(point_pb2.UpsertRequest(collection=collection, points=points, mode=mode))
    codes = {code.value[0]: code.name for code in grpc.StatusCode}
    assert {one.index: codes[one.code] for one in reply.errors} == errors
    assert reply.upserted == 3 - len(errors)
    records = stubs.points.Scroll(point_pb2.ScrollRequest(collection=collection)).records
    assert {record.id.str: json.loads(record.payload_json)["value"] for record in records} == values


def test_metadata_and_durability_are_updated(stubs: Any, collection: str) -> None:
    change = collection_pb2.UpdateCollectionRequest
    info = stubs.collections.UpdateCollection(change(name=collection, metadata_json=b'{"a":1}'))
    assert (info.metadata_json, info.durability) == (b'{"a":1}', collection_pb2.DURABILITY_FULL)
    relaxed = collection_pb2.DURABILITY_RELAXED
    stubs.collections.UpdateCollection(change(name=collection, durability=relaxed))
    info = stubs.collections.GetCollection(collection_pb2.GetCollectionRequest(name=collection))
    assert (info.metadata_json, info.durability) == (b'{"a":1}', relaxed)
    durabilities: list[Any] = [0, 1, 2]
    for durability in durabilities:
        point = point_pb2.PointInput(id=PointId(num=1), text="dog")
        request = point_pb2.UpsertRequest(collection=collection, points=[point], durability=durability)
        assert stubs.points.Upsert(request).upserted == 1
    unknown: Any = 9
    for bad in (change(name=collection, metadata_json=b"["), change(name=collection, durability=unknown)):
        with pytest.raises(grpc.RpcError) as caught:
            stubs.collections.UpdateCollection(bad)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
