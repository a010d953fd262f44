"""Blocks of points over the wire, beside the same points one by one."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from nearlight.client import Client, Point, PointBlock, UpsertTerms, WrongSpace
from nearlight.v1 import point_id_pb2, point_pb2, vector_pb2

DIM = 16
PointId = point_id_pb2.PointId


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as made:
        yield made


@pytest.fixture
def names(client: Client) -> Iterator[tuple[str, str]]:
    for name in ("block", "single"):
        client.create_collection(name, space=("s", DIM))
    yield ("block", "single")
    for name in ("block", "single"):
        client.delete_collection(name)


def rows_of(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def content(client: Client, name: str) -> dict[Any, Any]:
    found = client.scroll(name, with_vectors=True)
    return {one.id: (one.payload, None if one.vector is None else one.vector.tobytes()) for one in found}


@pytest.mark.parametrize("block_points", [1, 40, 1000])
def test_a_block_equals_its_points(client: Client, names: tuple[str, str], block_points: int) -> None:
    ids = [f"p{i % 70}" if i % 3 else i % 70 for i in range(100)]
    payloads = [{"i": i, "text": "é\0", "deep": [{"a": None}]} for i in range(100)]
    block = PointBlock(
        ids, rows_of(100), [one if i % 2 else json.dumps(one) for i, one in enumerate(payloads)]
    )
    acks = list(client.upsert_blocks(names[0], block, block_points=block_points))
    points = [Point(i, p, vector=v) for i, p, v in zip(ids, payloads, rows_of(100), strict=True)]
    list(client.upsert_stream(names[1], points))
    assert [len(ack.ids) for ack in acks][:-1] == [min(block_points, 100)] * (len(acks) - 1)
    assert [one for ack in acks for one in ack.ids] == ids
    assert sum(ack.upserted for ack in acks) == 100
    assert content(client, names[0]) == content(client, names[1])
    last = client.collection(names[0]).last_seq
    assert acks[-1].seq == last
    assert client.query(names[0], vector=rows_of(100)[99], limit=1, min_seq=last)[0].id == ids[99]


def test_bad_rows_fail_alone_at_their_place(client: Client, names: tuple[str, str]) -> None:
    rows = rows_of(90)
    rows[5, 3], rows[41], rows[88, 0] = np.nan, 0, np.inf
    ids: list[Any] = list(range(90))
    ids[0], ids[50] = "", -1
    payloads: list[Any] = [{}] * 90
    payloads[7], payloads[60], payloads[61] = {"a": float("nan")}, "[1]", '{"a": "' + "x" * 70_000 + '"}'
    acks = list(client.upsert_blocks(names[0], PointBlock(ids, rows, payloads), block_points=40))
    errors = {error.index: error for ack in acks for error in ack.errors}
    assert sorted(errors) == [0, 5, 7, 41, 50, 60, 61, 88]
    assert errors[5].field == "block.vectors[5]"
    assert "nan at [3]; its values must be finite" in errors[5].message
    assert errors[60].field == "block.payloads_json[60]"
    assert "the limit is 65536" in errors[61].message
    assert "all zeros" in errors[41].message
    assert {error.code for error in errors.values()} == {"INVALID_ARGUMENT"}
    assert set(content(client, names[0])) == {i for i in range(90) if i not in errors}


@pytest.mark.parametrize(("mode", "code"), [("insert", "ALREADY_EXISTS"), ("update", "NOT_FOUND")])
def test_terms_hold_for_blocks(client: Client, names: tuple[str, str], mode: Any, code: str) -> None:
    list(client.upsert_blocks(names[0], PointBlock(range(0, 60, 2), rows_of(30))))
    both = PointBlock([*range(60), 3, 4], rows_of(62, 1))
    acks = list(client.upsert_blocks(names[0], both, block_points=50, terms=UpsertTerms(mode=mode)))
    errors = [error for ack in acks for error in ack.errors]
    assert {error.code for error in errors} == {code}
    first = 0 if mode == "insert" else 1
    rest = [60, 61] if mode == "insert" else [60]  # 3 was inserted by the request before
    assert [error.index for error in errors] == [*range(first, 60, 2), *rest]
    assert errors[1].field == f"block.ids[{first + 2}]"


def test_a_block_of_another_space_is_refused(client: Client, names: tuple[str, str]) -> None:
    with pytest.raises(WrongSpace):
        list(client.upsert_blocks(names[0], PointBlock([1], rows_of(1)), terms=UpsertTerms(space_id="t")))


def test_half_floats_are_sent_as_they_are(client: Client, names: tuple[str, str]) -> None:
    rows = rows_of(20).astype(np.float16)
    list(client.upsert_blocks(names[0], PointBlock(np.arange(20), rows)))
    list(client.upsert_blocks(names[1], PointBlock(np.arange(20), rows.astype(np.float32))))
    assert content(client, names[0]) == content(client, names[1])


def block(n: int = 2, **fields: Any) -> point_pb2.PointBlock:
    vectors = {"data": rows_of(n).tobytes(), "dim": DIM, "count": n} | fields.pop("vectors", {})
    ids = [PointId(num=i) for i in range(n)]
    return point_pb2.PointBlock(**{"ids": ids, "vectors": vector_pb2.VectorBlock(**vectors), **fields})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (block(0), "block.ids holds 0 items; the limit is 1 to 10000"),
        (block(10_001), "block.ids holds 10001 items; the limit is 1 to 10000"),
        (block(vectors={"count": 3}), "block.vectors.count is 3, but there are 2 ids"),
        (block(vectors={"dim": 8}), "block.vectors.dim is 8; the collection's is 16"),
        (block(vectors={"data": b"1234"}), "block.vectors.data has 4 bytes; 2 rows of dim 16 have 128"),
        (block(vectors={"dtype": 2}), "block.vectors.data has 128 bytes; 2 rows of dim 16 have 64"),
        (block(vectors={"dtype": 9}), "block.vectors.dtype is 9"),
        (block(payloads_json=[b"{}"]), "block.payloads_json holds 1 items; it must be none, or 2"),
    ],
)
def test_columns_that_do_not_fit_refuse_the_request(
    stubs: Any, names: tuple[str, str], wrong: point_pb2.PointBlock, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs.points.Upsert(point_pb2.UpsertRequest(collection=names[0], block=wrong))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in str(caught.value.details())


def test_a_block_comes_without_points_beside_it(stubs: Any, names: tuple[str, str]) -> None:
    point = point_pb2.PointInput(id=PointId(num=1), text="x")
    with pytest.raises(grpc.RpcError, match="points holds 1 items; beside a block it must hold none"):
        stubs.points.Upsert(point_pb2.UpsertRequest(collection=names[0], points=[point], block=block()))


def test_an_id_that_is_not_set_fails_alone(stubs: Any, names: tuple[str, str]) -> None:
    ids = [PointId(), PointId(str="a")]
    reply = stubs.points.Upsert(point_pb2.UpsertRequest(collection=names[0], block=block(ids=ids)))
    assert (reply.upserted, [(error.index, error.field) for error in reply.errors]) == (
        1,
        [(0, "block.ids[0]")],
    )
