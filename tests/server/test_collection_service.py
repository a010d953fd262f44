import json
from typing import Any

import grpc
import pytest

from nearlight.v1 import collection_pb2, point_id_pb2, point_pb2

Create = collection_pb2.CreateCollectionRequest
NO_DURABILITY: Any = 7
INVALID, UNBUILT = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED


def test_a_collection_lives_and_dies(stubs: Any) -> None:
    metadata = json.dumps({"owner": "me", "n": 2**60 + 1}).encode()
    made = stubs.collections.CreateCollection(Create(name="life", metadata_json=metadata))
    assert (made.name, made.dim, made.count, made.model) == ("life", 16, 0, "tiny")
    assert json.loads(made.metadata_json) == {"owner": "me", "n": 2**60 + 1}
    assert made.durability == collection_pb2.DURABILITY_FULL
    point = point_pb2.PointInput(id=point_id_pb2.PointId(num=1), text="dog")
    stubs.points.Upsert(point_pb2.UpsertRequest(collection="life", points=[point]))
    got = stubs.collections.GetCollection(collection_pb2.GetCollectionRequest(name="life"))
    assert (got.count, got.space_id, got.created_unix_ms) == (1, made.space_id, made.created_unix_ms)
    assert got.last_seq > 0
    gone = stubs.collections.DeleteCollection(collection_pb2.DeleteCollectionRequest(name="life"))
    assert gone.deleted == 1
    with pytest.raises(grpc.RpcError) as caught:
        stubs.collections.GetCollection(collection_pb2.GetCollectionRequest(name="life"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_list_comes_in_pages_by_name(stubs: Any) -> None:
    for name in ("p3", "p1", "p2", "p4", "p5"):
        stubs.collections.CreateCollection(Create(name=name))
    seen, token = [], ""
    while True:
        request = collection_pb2.ListCollectionsRequest(page_size=2, page_token=token)
        reply = stubs.collections.ListCollections(request)
        seen += [info.name for info in reply.collections]
        token = reply.next_page_token
        if not token:
            break
    assert [name for name in seen if name.startswith("p")] == ["p1", "p2", "p3", "p4", "p5"]
    assert seen == sorted(seen)


def test_the_space_comes_from_the_model_asked_for(stubs: Any) -> None:
    made = stubs.collections.CreateCollection(Create(name="other", model="sigmoid"))
    default = stubs.collections.CreateCollection(Create(name="default"))
    assert made.model == "sigmoid"
    assert made.space_id != default.space_id


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (Create(), INVALID, "name is ''"),
        (Create(name=".hidden"), INVALID, "name is '.hidden'"),
        (Create(name="a/b"), INVALID, "1 to 128 of A-Z a-z 0-9 . _ -"),
        (Create(name="x" * 129), INVALID, "129 characters long"),
        (Create(name="m", metadata_json=b"[]"), INVALID, "metadata_json is a JSON list"),
        (Create(name="m", metadata_json=b"{"), INVALID, "metadata_json is not JSON"),
        (Create(name="m", metadata_json=b" " * 70_000), INVALID, "70000 bytes; the limit is 65536"),
        (Create(name="m", model="nobody"), grpc.StatusCode.NOT_FOUND, "'nobody' is not loaded"),
        (Create(name="m", custom_space={"dim": 3}), INVALID, "custom_space.space_id has 0 bytes"),
        (Create(name="m", custom_space={"space_id": "s"}), INVALID, "custom_space.dim is 0"),
        (Create(name="m", index_config={"kind": 9}), INVALID, "index_config.kind is 9"),
        (Create(name="m", index_config={"hnsw_m": 2}), INVALID, "index.hnsw_m is 2; the limit is 4 to 128"),
        (Create(name="m", index_config={"recall_target": 0.2}), INVALID, "index.recall_target is 0.2"),
        (Create(name="m", durability=NO_DURABILITY), INVALID, "durability is 7, which has no meaning"),
    ],
)
def test_what_create_refuses(stubs: Any, request_: Create, code: grpc.StatusCode, words: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs.collections.CreateCollection(request_)
    assert caught.value.code() is code
    assert words in str(caught.value.details())


def set_alias(alias: str, collection: str) -> collection_pb2.AliasChange:
    return collection_pb2.AliasChange(set=collection_pb2.Alias(alias=alias, collection=collection))


def test_aliases_stand_for_collections_in_every_call(stubs: Any) -> None:
    for name in ("blue", "green"):
        stubs.collections.CreateCollection(Create(name=name))
    Update, List = collection_pb2.UpdateAliasesRequest, collection_pb2.ListAliasesRequest
    stubs.collections.UpdateAliases(Update(changes=[set_alias("live", "blue"), set_alias("spare", "green")]))
    point = point_pb2.PointInput(id=point_id_pb2.PointId(num=1), text="dog")
    stubs.points.Upsert(point_pb2.UpsertRequest(collection="live", points=[point]))
    stubs.collections.UpdateAliases(Update(changes=[set_alias("live", "green"), set_alias("spare", "blue")]))
    assert stubs.points.Count(point_pb2.CountRequest(collection="live")).count == 0
    assert stubs.points.Count(point_pb2.CountRequest(collection="spare")).count == 1
    got = stubs.collections.GetCollection(collection_pb2.GetCollectionRequest(name="live"))
    assert (got.name, list(got.aliases)) == ("green", ["live"])
    seen, token = [], ""
    while True:
        page = stubs.collections.ListAliases(List(page_size=1, page_token=token))
        seen += [(one.alias, one.collection) for one in page.aliases]
        token = page.next_page_token
        if not token:
            break
    assert seen == [("live", "green"), ("spare", "blue")]
    of_blue = stubs.collections.ListAliases(List(collection="spare")).aliases
    assert [one.alias for one in of_blue] == ["spare"]
    for changes, code, words in (
        ([], INVALID, "changes holds 0 items"),
        ([collection_pb2.AliasChange()], INVALID, "changes[0] is empty"),
        ([set_alias("-x", "blue")], INVALID, "changes[0].set.alias is '-x'"),
        ([set_alias("blue", "green")], grpc.StatusCode.ALREADY_EXISTS, "name of a collection"),
        ([set_alias("x", "none")], grpc.StatusCode.NOT_FOUND, "no collection 'none'"),
        ([collection_pb2.AliasChange(delete="none")], grpc.StatusCode.NOT_FOUND, "no alias 'none'"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stubs.collections.UpdateAliases(Update(changes=changes))
        assert caught.value.code() is code
        assert words in str(caught.value.details())
    stubs.collections.DeleteCollection(collection_pb2.DeleteCollectionRequest(name="green"))
    assert [one.alias for one in stubs.collections.ListAliases(List()).aliases] == ["spare"]


def test_payload_indexes_are_made_listed_and_removed(stubs: Any, collection: str) -> None:
    Index, Drop = collection_pb2.CreatePayloadIndexRequest, collection_pb2.DeletePayloadIndexRequest
    types = (collection_pb2.PAYLOAD_TYPE_KEYWORD, collection_pb2.PAYLOAD_TYPE_INTEGER)
    for key, payload_type in zip(("a\\.b.c", "n"), types, strict=True):
        info = stubs.collections.CreatePayloadIndex(Index(collection=collection, key=key, type=payload_type))
    assert [index.key for index in info.payload_indexes] == ["a\\.b.c", "n"]
    assert info.payload_indexes[1].type == collection_pb2.PAYLOAD_TYPE_INTEGER
    info = stubs.collections.DeletePayloadIndex(Drop(collection=collection, key="n"))
    assert len(info.payload_indexes) == 1
    keyword = collection_pb2.PAYLOAD_TYPE_KEYWORD
    refusals: list[tuple[Any, Any, grpc.StatusCode, str]] = [
        (stubs.collections.CreatePayloadIndex, Index(key="k"), INVALID, "type is 0; it must be one of"),
        (stubs.collections.CreatePayloadIndex, Index(type=keyword), INVALID, "key has 0 bytes"),
        (
            stubs.collections.CreatePayloadIndex,
            Index(key="a\\.b.c", type=collection_pb2.PAYLOAD_TYPE_GEO),
            grpc.StatusCode.ALREADY_EXISTS,
            "has an index of kind keyword, not geo",
        ),
        (stubs.collections.DeletePayloadIndex, Drop(key="n"), grpc.StatusCode.NOT_FOUND, "has no index"),
    ]
    for call, request, code, words in refusals:
        request.collection = collection
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        assert caught.value.code() is code
        assert words in str(caught.value.details())
