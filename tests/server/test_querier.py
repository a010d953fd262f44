"""Mixes, variety, groups and batches, over a real channel, against their plain meaning."""

import itertools
import json
from typing import Any

import grpc
import numpy as np
import pytest

from nearlight.v1 import collection_pb2, point_id_pb2, point_pb2, query_pb2, vector_pb2

_names = (f"querier-{n}" for n in itertools.count())
INVALID = grpc.StatusCode.INVALID_ARGUMENT
N = 60
VECTORS = np.random.default_rng(4).standard_normal((N, 16)).astype("<f4")
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def collection(stubs: Any) -> str:
    name = next(_names)
    stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name=name))
    points = [
        point_pb2.PointInput(
            id=point_id_pb2.PointId(num=i),
            vector=wire(VECTORS[i]),
            payload_json=json.dumps({"shoot": f"s{i % 7}", "n": i}).encode(),
        )
        for i in range(N)
    ]
    assert stubs.points.Upsert(point_pb2.UpsertRequest(collection=name, points=points)).upserted == N
    return name


def wire(vector: Any) -> vector_pb2.Vector:
    return vector_pb2.Vector(data=np.asarray(vector, "<f4").tobytes())


def like(i: int, **fields: Any) -> query_pb2.Example:
    return query_pb2.Example(id=point_id_pb2.PointId(num=i), **fields)


def mix(**fields: Any) -> query_pb2.Query:
    return query_pb2.Query(mix=query_pb2.Mix(**fields))


def asked(collection: str, query: query_pb2.Query, **fields: Any) -> query_pb2.QueryRequest:
    return query_pb2.QueryRequest(collection=collection, query=query, **fields)


def found(stubs: Any, request: query_pb2.QueryRequest) -> list[int]:
    return [hit.id.num for hit in stubs.points.Query(request).hits]


def ranked(scores: Any, left_out: set[int]) -> list[int]:
    return [int(i) for i in np.argsort(-scores, kind="stable") if i not in left_out]


def test_a_mix_looks_near_the_weighted_mean_and_leaves_its_points_out(stubs: Any, collection: str) -> None:
    query = mix(
        positive=[like(3, weight=2), query_pb2.Example(vector=wire(5 * VECTORS[9]))],
        negative=[like(4), like(5)],
    )
    mean = (2 * UNIT[3] + UNIT[9]) / 3 - (UNIT[4] + UNIT[5]) / 2
    expected = ranked(UNIT @ mean, {3, 4, 5})
    reply = stubs.points.Query(asked(collection, query, limit=8, offset=2))
    assert [hit.id.num for hit in reply.hits] == expected[2:10]
    scores = UNIT @ (mean / np.linalg.norm(mean))
    assert [hit.score for hit in reply.hits] == pytest.approx(scores[expected[2:10]].tolist(), abs=1e-5)
    assert found(stubs, asked(collection, mix(negative=[like(4)]), limit=59)) == ranked(-UNIT @ UNIT[4], {4})


def test_texts_and_images_mix_as_their_vectors(stubs: Any, collection: str, images: list[bytes]) -> None:
    words, picture = query_pb2.Example(text="a dog"), query_pb2.Example(image=images[0])

    def scores(query: query_pb2.Query) -> Any:
        hits = stubs.points.Query(asked(collection, query, limit=N)).hits
        return np.array([hit.score for hit in sorted(hits, key=lambda hit: hit.id.num)])

    text, image = scores(query_pb2.Query(text="a dog")), scores(query_pb2.Query(image=images[0]))
    both = scores(mix(positive=[words], negative=[picture]))
    assert np.corrcoef(both, text - image)[0, 1] == pytest.approx(1, abs=1e-5)


def test_best_score_ranks_by_any_positive_and_puts_the_others_behind(stubs: Any, collection: str) -> None:
    query = mix(
        positive=[like(1), like(2)], negative=[like(7), like(8)], strategy=query_pb2.MIX_STRATEGY_BEST_SCORE
    )
    best = np.maximum(UNIT @ UNIT[1], UNIT @ UNIT[2])
    behind = np.maximum(UNIT @ UNIT[7], UNIT @ UNIT[8]) > best
    expected = [int(i) for i in np.lexsort((-best, behind)) if i not in (1, 2, 7, 8)]
    reply = stubs.points.Query(asked(collection, query, limit=40))
    assert [hit.id.num for hit in reply.hits] == expected[:40]
    assert [hit.score for hit in reply.hits] == pytest.approx(best[expected[:40]].tolist(), abs=1e-5)


def test_variety_follows_the_formula(stubs: Any, collection: str) -> None:
    candidates = ranked(UNIT @ UNIT[0], {0})[:30]
    chosen = [candidates[0]]
    while len(chosen) < 9:
        rest = [i for i in candidates if i not in chosen]
        chosen.append(
            max(rest, key=lambda i: 0.4 * UNIT[0] @ UNIT[i] - 0.6 * max(UNIT[i] @ UNIT[j] for j in chosen))
        )
    by_point = query_pb2.Query(id=point_id_pb2.PointId(num=0))
    mmr = query_pb2.Mmr(diversity=0.6, candidates=30)
    assert found(stubs, asked(collection, by_point, limit=9, mmr=mmr)) == chosen
    assert found(stubs, asked(collection, by_point, limit=4, offset=5, mmr=mmr)) == chosen[5:]
    plain = found(stubs, asked(collection, by_point, limit=9))
    assert found(stubs, asked(collection, by_point, limit=9, mmr=query_pb2.Mmr())) == plain
    reply = stubs.points.Query(asked(collection, by_point, limit=2, mmr=mmr))
    assert not any(hit.HasField("vector") for hit in reply.hits)


def test_groups_hold_the_best_of_each_value(stubs: Any, collection: str) -> None:
    query = asked(collection, query_pb2.Query(id=point_id_pb2.PointId(num=0)), limit=5)
    request = query_pb2.QueryGroupsRequest(query=query, group_by="shoot", group_size=3)
    reply = stubs.points.QueryGroups(request)
    expected: dict[str, list[int]] = {}
    for i in ranked(UNIT @ UNIT[0], {0}):
        expected.setdefault(f"s{i % 7}", []).append(i)
    wanted = [(key, members[:3]) for key, members in list(expected.items())[:5]]
    assert [(json.loads(g.key_json), [h.id.num for h in g.hits]) for g in reply.groups] == wanted
    assert reply.groups[0].hits[0].payload_json
    request.group_size = 0
    query.with_payload.enable = False
    request.query.CopyFrom(query)
    reply = stubs.points.QueryGroups(request)
    assert [[h.id.num for h in g.hits] for g in reply.groups] == [members[:1] for _, members in wanted]
    assert not reply.groups[0].hits[0].payload_json
    assert reply.info.exact


def test_a_batch_answers_as_its_queries_alone_and_one_that_fails_fails_alone(
    stubs: Any, collection: str
) -> None:
    queries = [asked("", query_pb2.Query(vector=wire(VECTORS[i])), limit=4) for i in range(10)]
    queries += [asked("", query_pb2.Query(text=f"word {i}"), limit=3 + i % 2, offset=1) for i in range(6)]
    queries += [asked(collection, mix(positive=[like(1)], negative=[like(2)]), limit=4)]
    best = mix(positive=[like(i) for i in (1, 5)], strategy=query_pb2.MIX_STRATEGY_BEST_SCORE)
    queries += [asked("", best, filter={"must": [{"is_empty": "none"}]}, with_vectors=True)]
    bad = {
        3: asked("", query_pb2.Query(text=" ")),
        8: asked("", mix(positive=[like(1)], negative=[like(1)])),
        12: asked("other", query_pb2.Query(text="x")),
    }
    for at, query in bad.items():
        queries.insert(at, query)
    reply = stubs.points.QueryBatch(query_pb2.QueryBatchRequest(collection=collection, queries=queries))
    assert len(reply.results) == len(queries)
    for i, (query, outcome) in enumerate(zip(queries, reply.results, strict=True)):
        assert outcome.HasField("error") == (i in bad), (i, outcome.error)
        if i not in bad:
            query.collection = collection
            assert list(outcome.response.hits) == list(stubs.points.Query(query).hits)
    assert "cancel out" in reply.results[8].error.message
    assert "queries[12].collection is 'other'" in reply.results[12].error.message


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (mix(positive=[like(1)] * 257), "257 items; the limit is 1 to 256"),
        (mix(positive=[query_pb2.Example()]), "query.mix.positive[0] is empty; it must hold vector, text"),
        (
            mix(positive=[like(1), like(2, weight=0)]),
            "query.mix.positive[1].weight is 0.0; it must be above 0",
        ),
        (mix(negative=[like(1, weight=float("inf"))]), "query.mix.negative[0].weight is inf"),
        (mix(negative=[like(1)], strategy=query_pb2.MIX_STRATEGY_BEST_SCORE), "positive is empty"),
        (
            mix(positive=[like(1, weight=2)], strategy=query_pb2.MIX_STRATEGY_BEST_SCORE),
            "with strategy BEST_SCORE it must be 1",
        ),
        (mix(positive=[like(1)], strategy=9), "query.mix.strategy is 9"),
        (mix(positive=[like(1)], negative=[like(1)]), "cancel out"),
    ],
)
def test_a_bad_mix_is_refused(stubs: Any, collection: str, query: query_pb2.Query, words: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs.points.Query(asked(collection, query))
    assert caught.value.code() is INVALID
    assert words in str(caught.value.details())


@pytest.mark.parametrize(
    ("fields", "wish", "words"),
    [
        ({"offset": 1}, {}, "offset is 1; groups have none"),
        ({"mmr": query_pb2.Mmr()}, {}, "mmr is set"),
        ({}, {"group_by": ""}, "group_by has 0 bytes"),
        ({}, {"group_size": 101}, "group_size is 101; the limit is 1 to 100"),
        ({"limit": 2000}, {"group_size": 6}, "limit * group_size is 2000 * 6; the limit is 10000"),
    ],
)
def test_bad_groups_are_refused(
    stubs: Any, collection: str, fields: dict[str, Any], wish: dict[str, Any], words: str
) -> None:
    query = asked(collection, query_pb2.Query(text="x"), **fields)
    with pytest.raises(grpc.RpcError) as caught:
        stubs.points.QueryGroups(
            query_pb2.QueryGroupsRequest(**{"query": query, "group_by": "shoot", **wish})
        )
    assert caught.value.code() is INVALID
    assert words in str(caught.value.details())
