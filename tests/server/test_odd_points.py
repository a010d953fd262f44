"""Odd vectors, payloads and ids over the wire: kept exactly, or refused by name, each alone."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from nearlight.server.config import ServerConfig
from nearlight.server.local import LocalServer
from nearlight.v1 import point_pb2
from nearlight.v1.point_id_pb2 import PointId

MIB = 2**20
DIM = 16


@pytest.fixture(scope="module")
def address(
    images_only_bundle: Path, tmp_path_factory: pytest.TempPathFactory, config_of: Callable[..., ServerConfig]
) -> Iterator[str]:
    """A server that takes payloads of 1 MiB, the most a store takes."""
    limits = {"max_payload_bytes": MIB}
    config = config_of([images_only_bundle], tmp_path_factory.mktemp("odd"), limits=limits)
    with LocalServer(config) as server:
        yield server.address


def point(name: str, payload: bytes = b"", vector: Any = None) -> point_pb2.PointInput:
    data = np.ones(DIM, "<f4") if vector is None else np.asarray(vector, "<f4")
    return point_pb2.PointInput(id=PointId(str=name), vector={"data": data.tobytes()}, payload_json=payload)


def upsert(stubs: Any, collection: str, *points: point_pb2.PointInput) -> Any:
    return stubs.points.Upsert(point_pb2.UpsertRequest(collection=collection, points=points))


def stored(stubs: Any, collection: str) -> dict[str, Any]:
    request = point_pb2.ScrollRequest(collection=collection, with_vectors=True)
    return {record.id.str: record for record in stubs.points.Scroll(request).records}


def padded(n_bytes: int) -> bytes:
    return b'{"a":"' + b"x" * (n_bytes - 8) + b'"}'


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (padded(MIB + 1), "1048577 bytes; the limit is 1048576"),
        (nested(65), "nested too deep; the limit is 64 levels"),
        (nested(100_000), "nested too deep; the limit is 64 levels"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":1,"a":2}', "a key appears twice"),
        (b'{"a":"\xff"}', "not valid JSON"),
        (b'{"a":"\\ud800"}', "lone surrogates"),
        (b"[]", "it must be a JSON object"),
        (b'{"a":1e400}', "JSON has no NaN and no infinity"),
    ],
)
def test_an_odd_payload_is_refused_alone(stubs: Any, collection: str, payload: bytes, words: str) -> None:
    reply = upsert(stubs, collection, point("good"), point("odd", payload), point("good too"))
    assert [(one.index, one.code) for one in reply.errors] == [(1, grpc.StatusCode.INVALID_ARGUMENT.value[0])]
    assert words in reply.errors[0].message
    assert set(stored(stubs, collection)) == {"good", "good too"}


@pytest.mark.parametrize("payload", [padded(MIB), nested(64), b'{"a":123456789012345678901234567890}'])
def test_the_largest_and_the_deepest_payload_come_back(stubs: Any, collection: str, payload: bytes) -> None:
    assert upsert(stubs, collection, point("odd", payload)).upserted == 1
    assert json.loads(stored(stubs, collection)["odd"].payload_json) == json.loads(payload)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ([np.nan] * DIM, "every number must be finite"),
        ([1.0, np.inf, *[0.0] * 14], "[1] is inf; every number must be finite"),
        ([1.0, -np.inf, *[0.0] * 14], "[1] is -inf"),
        ([0.0] * DIM, "is all zeros"),
        ([-0.0] * DIM, "is all zeros"),
        ([1.0] * (DIM - 1), "has dim 15; the collection's is 16"),
        ([1.0] * (DIM + 1), "has dim 17; the collection's is 16"),
        ([], "has 0 bytes"),
    ],
)
def test_an_odd_vector_is_refused_alone(stubs: Any, collection: str, vector: Any, words: str) -> None:
    reply = upsert(stubs, collection, point("good"), point("odd", vector=vector))
    assert [one.index for one in reply.errors] == [1]
    assert words in reply.errors[0].message
    assert set(stored(stubs, collection)) == {"good"}


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e-3, 1.0, 1e3, 3e38])
def test_a_vector_of_any_length_is_stored_at_unit_length(stubs: Any, collection: str, scale: float) -> None:
    vector = np.array([scale, -scale, *[0.0] * 14], np.float32)
    assert upsert(stubs, collection, point("odd", vector=vector)).upserted == 1
    found = np.frombuffer(stored(stubs, collection)["odd"].vector.data, "<f4")
    assert np.allclose(found[:2], [0.5**0.5, -(0.5**0.5)], atol=1e-6)


def test_ids_of_any_script_stay_apart(stubs: Any, collection: str) -> None:
    names = [
        "é",
        "e\u0301",
        "\u202e",
        "\U0001f600",
        "\x00",
        "a\x00b",
        "a",
        " a",
        "ａ",
        "ß",
        "SS",
        "%",
        "'",
        "0",
        "00",
    ]
    upsert(stubs, collection, *(point(name, json.dumps({"name": name}).encode()) for name in names))
    found = stored(stubs, collection)
    assert {name: json.loads(one.payload_json)["name"] for name, one in found.items()} == {
        n: n for n in names
    }
    assert list(found) == sorted(names, key=str.encode)
    stubs.points.Delete(
        point_pb2.DeleteRequest(collection=collection, points={"ids": {"ids": [{"str": "é"}]}})
    )
    assert set(stored(stubs, collection)) == set(names) - {"é"}
