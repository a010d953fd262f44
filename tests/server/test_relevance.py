"""Relevance through a real server: what it is, what it cuts, what it needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from nearlight.server.autocut import autocut
from nearlight.server.config import ServerConfig
from nearlight.server.local import LocalServer
from nearlight.server.prompt_bank import PROMPTS, SENTENCES, THINGS
from nearlight.store.relevance import fit_null
from nearlight.v1 import (
    collection_pb2,
    embedding_pb2,
    input_pb2,
    maintenance_pb2,
    point_pb2,
    query_pb2,
    vector_pb2,
)
from nearlight.v1.point_id_pb2 import PointId

F32 = npt.NDArray[np.float32]
N = 80
DIM = 16
Query, Request = query_pb2.Query, query_pb2.QueryRequest


def point(i: int, row: F32) -> point_pb2.PointInput:
    vector = vector_pb2.Vector(data=row.astype("<f4").tobytes(), dtype=vector_pb2.DTYPE_F32)
    return point_pb2.PointInput(id=PointId(num=i), vector=vector, payload_json=b'{"even": %d}' % (i % 2 == 0))


@pytest.fixture(scope="module")
def rows() -> F32:
    found = np.random.default_rng(0).normal(size=(N, DIM)) + 0.2
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def photos(stubs: Any, rows: F32) -> str:
    """A calibrated collection."""
    stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="photos"))
    points = [point(i, row) for i, row in enumerate(rows)]
    stubs.points.Upsert(point_pb2.UpsertRequest(collection="photos", points=points))
    stubs.maintenance.Calibrate(maintenance_pb2.CalibrateRequest(collection="photos"))
    return "photos"


def embedded(stubs: Any, texts: list[str]) -> F32:
    found = []
    for start in range(0, len(texts), 100):
        inputs = [input_pb2.Input(text=text) for text in texts[start : start + 100]]
        block = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=inputs)).vectors
        found.append(np.frombuffer(block.data, "<f4").reshape(block.count, block.dim))
    return np.concatenate(found)


def test_a_hits_relevance_is_that_of_the_bank_of_prompts(stubs: Any, photos: str, rows: F32) -> None:
    reply = stubs.points.Query(Request(collection=photos, query=Query(text="a red fox"), limit=N))
    null = fit_null(embedded(stubs, list(PROMPTS)), rows)
    (query,) = embedded(stubs, ["a red fox"])
    level = null.level(query, rows, null.centres(rows))
    wanted = null.relevance(level, rows @ query, rows, N)
    assert len(reply.hits) == N
    for hit in reply.hits:
        assert hit.relevance == pytest.approx(wanted[hit.id.num], abs=2e-3)
        assert not hit.HasField("vector")
    assert reply.timings.infer_ms > 0  # of the vector that was made before the search
    assert len({round(hit.relevance, 3) for hit in reply.hits}) >= 3
    fitted = stubs.maintenance.Calibrate(maintenance_pb2.CalibrateRequest(collection=photos))
    assert fitted.text_midpoint == pytest.approx(null.midpoint, abs=1e-3)
    assert fitted.points == N


def test_an_image_or_a_point_is_judged_by_images_a_vector_not_at_all(
    stubs: Any, photos: str, images: list[bytes], rows: F32
) -> None:
    null = fit_null(rows[::2][:40], rows)
    by_point = stubs.points.Query(Request(collection=photos, query=Query(id=PointId(num=3)), limit=5))
    scores = np.array([hit.score for hit in by_point.hits], np.float32)
    level = null.level(rows[3], rows, null.centres(rows))
    wanted = null.relevance(level, scores, rows[[hit.id.num for hit in by_point.hits]], N)
    # The bank was drawn from the same rows in the order of their ids.
    np.testing.assert_allclose([hit.relevance for hit in by_point.hits], wanted, atol=2e-3)
    by_image = stubs.points.Query(Request(collection=photos, query=Query(image=images[0])))
    assert all(hit.HasField("relevance") for hit in by_image.hits)
    vector = vector_pb2.Vector(data=rows[0].astype("<f4").tobytes())
    by_vector = stubs.points.Query(Request(collection=photos, query=Query(vector=vector)))
    assert not any(hit.HasField("relevance") for hit in by_vector.hits)


def test_min_relevance_keeps_the_best_that_reach_it(stubs: Any, photos: str) -> None:
    query = Query(text="a red fox")
    every = stubs.points.Query(Request(collection=photos, query=query, limit=N)).hits
    threshold = sorted(hit.relevance for hit in every)[-12]
    kept = [hit for hit in every if hit.relevance >= threshold]
    assert len(kept) == 12
    request = Request(collection=photos, query=query, limit=N, min_relevance=threshold)
    assert list(stubs.points.Query(request).hits) == kept
    request.limit, request.offset = 4, 3
    assert list(stubs.points.Query(request).hits) == kept[3:7]
    request.min_relevance = 1.0
    assert len(stubs.points.Query(request).hits) == 0
    batch = query_pb2.QueryBatchRequest(
        collection=photos, queries=[Request(query=query, limit=4, min_relevance=threshold)]
    )
    (outcome,) = stubs.points.QueryBatch(batch).results
    assert list(outcome.response.hits) == kept[:4]


def test_in_a_batch_a_query_that_cannot_be_judged_fails_alone(stubs: Any, photos: str, rows: F32) -> None:
    vector = vector_pb2.Vector(data=rows[0].astype("<f4").tobytes())
    queries = [
        Request(query=Query(vector=vector), min_relevance=0.5),
        Request(query=Query(text="a red fox"), limit=3),
        Request(query=Query(vector=vector), limit=2, autocut=query_pb2.Autocut()),
        Request(query=Query(text="a red fox"), min_relevance=2),
    ]
    batch = query_pb2.QueryBatchRequest(collection=photos, queries=queries)
    first, second, third, fourth = stubs.points.QueryBatch(batch).results
    assert (first.error.code, "needs a query by text" in first.error.message) == (9, True)
    alone = stubs.points.Query(Request(collection=photos, query=Query(text="a red fox"), limit=3))
    assert list(second.response.hits) == list(alone.hits)
    assert len(third.response.hits) == 2
    assert fourth.error.code == 3


def test_a_filter_leaves_fewer_points_to_be_near_by_chance(stubs: Any, photos: str, rows: F32) -> None:
    query = Query(text="a red fox")
    whole = {
        hit.id.num: hit for hit in stubs.points.Query(Request(collection=photos, query=query, limit=N)).hits
    }
    even: Any = {"must": [{"field": {"key": "even", "match": {"integer": 1}}}]}
    half = stubs.points.Query(Request(collection=photos, query=query, limit=N, filter=even)).hits
    assert len(half) == N // 2
    null = fit_null(embedded(stubs, list(PROMPTS)), rows)
    (vector,) = embedded(stubs, ["a red fox"])
    level = null.level(vector, rows, null.centres(rows))
    wanted = null.relevance(level, rows @ vector, rows, N // 2)
    for hit in half:
        assert hit.relevance == pytest.approx(wanted[hit.id.num], abs=2e-3)
        assert hit.relevance >= whole[hit.id.num].relevance


def test_vectors_come_back_as_they_were_asked_for(stubs: Any, photos: str, rows: F32) -> None:
    for dtype, kind in ((vector_pb2.DTYPE_F32, "<f4"), (vector_pb2.DTYPE_F16, "<f2")):
        request = Request(collection=photos, query=Query(text="x"), limit=3, with_vectors=True, dtype=dtype)
        for hit in stubs.points.Query(request).hits:
            assert hit.vector.dtype == dtype
            given = np.frombuffer(hit.vector.data, kind).astype(np.float32)
            np.testing.assert_allclose(given, rows[hit.id.num], atol=1e-3)
            assert hit.HasField("relevance")


def test_autocut_needs_no_calibration(stubs: Any, collection: str) -> None:
    axis = np.eye(DIM, dtype=np.float32)
    angles = [0.1, 0.12, 0.14, 0.7, 0.72, 0.74, 1.3, 1.32]
    points = [point(i, np.cos(a) * axis[0] + np.sin(a) * axis[1]) for i, a in enumerate(angles)]
    stubs.points.Upsert(point_pb2.UpsertRequest(collection=collection, points=points))
    query = Query(vector=vector_pb2.Vector(data=axis[0].tobytes()))

    def kept(jumps: int, **fields: Any) -> list[int]:
        request = Request(
            collection=collection, query=query, autocut=query_pb2.Autocut(jumps=jumps), **fields
        )
        return [hit.id.num for hit in stubs.points.Query(request).hits]

    assert kept(0) == kept(1) == [0, 1, 2]
    assert kept(2) == [0, 1, 2, 3, 4, 5]
    assert kept(3) == list(range(8))
    assert kept(1, offset=1) == [1, 2]
    assert kept(1, limit=2) == [0, 1]


@pytest.mark.parametrize(
    ("scores", "jumps", "n"),
    [
        ([], 1, 0),
        ([0.5], 1, 1),
        ([0.9, 0.1], 1, 2),
        ([0.5, 0.5, 0.5], 1, 3),
        ([0.9, 0.3, 0.29, 0.28], 1, 1),
        ([0.9, 0.89, 0.88, 0.3, 0.29], 1, 3),
        ([0.9, 0.8, 0.7, 0.6], 1, 4),  # a straight line has no fall
        ([0.9, 0.89, 0.5, 0.49, 0.1, 0.09], 1, 2),
        ([0.9, 0.89, 0.5, 0.49, 0.1, 0.09], 2, 4),
        ([0.9, 0.89, 0.5, 0.49, 0.1, 0.09], 3, 6),
    ],
)
def test_autocut_by_hand(scores: list[float], jumps: int, n: int) -> None:
    assert autocut(scores, jumps) == n


def test_what_cannot_be_judged_says_why(stubs: Any, collection: str, photos: str, rows: F32) -> None:
    vector = vector_pb2.Vector(data=rows[0].astype("<f4").tobytes())
    space: Any = {"space_id": "mine", "dim": DIM}
    stubs.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(name="own-space", custom_space=space)
    )
    points = [point(i, row) for i, row in enumerate(rows)]
    stubs.points.Upsert(point_pb2.UpsertRequest(collection="own-space", points=points))
    fitted = stubs.maintenance.Calibrate(maintenance_pb2.CalibrateRequest(collection="own-space"))
    assert not fitted.HasField("text_midpoint")
    impossible = grpc.StatusCode.FAILED_PRECONDITION
    calls: list[tuple[Callable[[], Any], grpc.StatusCode, str]] = [
        (
            lambda: stubs.points.Query(
                Request(collection=collection, query=Query(text="x"), min_relevance=0)
            ),
            impossible,
            "needs a calibrated collection",
        ),
        (
            lambda: stubs.points.Query(
                Request(collection=photos, query=Query(vector=vector), min_relevance=0)
            ),
            impossible,
            "needs a query by text, image or id; this one is by vector",
        ),
        (
            lambda: stubs.points.Query(
                Request(collection="own-space", query=Query(text="x"), min_relevance=0)
            ),
            impossible,
            "needs a calibration for texts",
        ),
        (
            lambda: stubs.maintenance.Calibrate(maintenance_pb2.CalibrateRequest(collection=collection)),
            impossible,
            "at least 50",
        ),
        (
            lambda: stubs.maintenance.Calibrate(maintenance_pb2.CalibrateRequest(collection="nowhere")),
            grpc.StatusCode.NOT_FOUND,
            "nowhere",
        ),
    ]
    for call, code, words in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is code
        assert words in str(caught.value.details())


def test_a_calibration_outlives_the_server(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Callable[[grpc.Channel], Any],
    rows: F32,
) -> None:
    answers = []
    for turn in range(2):
        with (
            LocalServer(config_of([tiny_bundle], tmp_path)) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            stubs = stubs_of(channel)
            if turn == 0:
                stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="c"))
                points = [point(i, row) for i, row in enumerate(rows)]
                stubs.points.Upsert(point_pb2.UpsertRequest(collection="c", points=points))
                stubs.maintenance.Calibrate(maintenance_pb2.CalibrateRequest(collection="c"))
            hits = stubs.points.Query(Request(collection="c", query=Query(text="a red fox"))).hits
            answers.append([(hit.id.num, hit.relevance) for hit in hits])
    assert answers[0] == answers[1]
    assert len(answers[0]) == 10


def test_the_bank_is_short_and_long_and_says_nothing_twice() -> None:
    assert len(THINGS) == len(set(THINGS)) >= 90
    assert len(SENTENCES) == len(set(SENTENCES)) >= 60
    assert len(PROMPTS) == len(set(PROMPTS)) == 2 * len(THINGS) + len(SENTENCES)
    assert all("\n" not in thing and ";" not in thing for thing in PROMPTS)
