"""Random work on all stores side by side: after every step they say the same."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearlight.store import Filter, Point, PointId, VectorCollection, VectorStore
from nearlight.store.filters import conditions as c
from tests.store.engines.asking import matching
from tests.store.engines.conftest import ENGINES, OPEN
from tests.store.filters import oracle

DIM = 4
IDS: list[PointId] = [0, 1, 2, 3, 4, 2**64 - 1, "0", "1", "a", "b", "ß", "'; --"]
VALUES = [None, 0, 1, 1.0, 2.5, True, "x", "xy", "2026-11-23", [], [1, 2], ["x", 3], {"k": 1}]
N_STEPS = 70


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[VectorStore]]:
    opened = [OPEN[name](tmp_path_factory.mktemp(name)) for name in ENGINES]
    yield opened
    for store in opened:
        store.close()


def some_filter(rng: random.Random) -> Filter:
    path = rng.choice([("k",), ("j",), ("j", "k")])
    tests: list[Any] = [
        c.Keyword("x"),
        c.Prefix("x"),
        c.Integer(1),
        c.Boolean(True),
        c.Range(gte=1.0, lt=2.5),
        c.IntegerRange(gt=0),
        c.ExceptInteger(frozenset({1})),
        c.ExceptKeyword(frozenset({"x"})),
        c.DatetimeRange(gte="2026-01-01"),
        c.ValuesCount(c.IntegerRange(gte=1)),
    ]
    leaves: list[c.Condition] = [c.Field(path, rng.choice(tests)) for _ in range(3)]
    leaves += [c.IsEmpty(path), c.IsNull(path), c.HasId(frozenset(rng.sample(IDS, 3)))]
    rng.shuffle(leaves)
    n = rng.randrange(3)
    return Filter(
        tuple(leaves[:n]), tuple(leaves[n : n + 2]), tuple(leaves[5:]), rng.choice([None, None, 0, 2])
    )


def some_payload(rng: random.Random) -> dict[str, Any]:
    return {key: rng.choice(VALUES) for key in rng.sample(["k", "j", "z"], rng.randrange(4))}


def step(rng: random.Random, collection: VectorCollection) -> Any:
    """One random piece of work; what it says, in words that all stores share."""
    points: Any = rng.sample(IDS, 3) if rng.random() < 0.5 else some_filter(rng)
    vector = np.array([[rng.gauss(0, 1) for _ in range(DIM)]], np.float32)
    match rng.randrange(8):
        case 0 | 1 | 2:
            new = [
                Point(one, np.array([rng.gauss(0, 1) for _ in range(DIM)]), some_payload(rng))
                for one in rng.choices(IDS, k=4)
            ]
            collection.upsert(new)
            return None
        case 3:
            return collection.delete(points) if rng.random() < 0.5 else None
        case 4:
            path = rng.choice([(), ("j",)])
            changed = collection.set_payload(points, some_payload(rng), path=path, replace=rng.random() < 0.3)
            return changed.n_points
        case 5:
            paths = rng.choice([None, [("k",)], [("j", "k"), ("z",)]])
            return collection.delete_payload(points, paths).n_points
        case 6:
            [hits], n = matching(collection, vector, some_filter(rng), limit=20, score_threshold=-0.3)
            return [hit.id for hit in hits], [hit.payload for hit in hits], n
        case _:
            filter = some_filter(rng)
            return collection.count(filter), sorted(
                map(repr, (r.id for r in collection.scroll(filter=filter)[0]))
            )


@pytest.mark.parametrize("seed", [1, 2])
def test_random_work_leaves_all_stores_alike(stores: list[VectorStore], seed: int) -> None:
    made = [store.create_collection(f"work-{seed}", space_id="s", dim=DIM) for store in stores]
    n_told = 0
    for number in range(N_STEPS):
        told = [step(random.Random(f"{seed} {number}"), collection) for collection in made]
        assert told[1:] == told[:1] * (len(told) - 1), f"seed {seed}, step {number}"
        n_told += told[0] not in (None, 0)
    assert n_told > N_STEPS / 4
    states = [
        {repr(record.id): record.payload for record in collection.scroll(limit=1000)[0]}
        for collection in made
    ]
    assert states[0] == states[1] == states[2] != {}


@pytest.fixture(scope="module", params=["milvus", "qdrant"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    store = OPEN[request.param](folder)
    yield store.create_collection("filters", space_id="s", dim=2)
    store.close()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(oracle.payloads, min_size=12, max_size=12), st.lists(oracle.filters, min_size=5, max_size=5))
def test_random_filters_pass_what_the_naive_meaning_says(
    other: VectorCollection, payloads: list[Any], filters: list[Filter]
) -> None:
    ids = [*oracle.IDS, "other", 3, 4, 5]
    other.upsert([Point(one, np.ones(2), payload) for one, payload in zip(ids, payloads, strict=True)])
    stored = {repr(record.id): record.payload for record in other.get(ids)}
    for filter in filters:
        found, _ = other.scroll(limit=100, filter=filter)
        wanted = [one for one in ids if oracle.passes(filter, one, stored[repr(one)])]
        assert sorted(repr(record.id) for record in found) == sorted(map(repr, wanted))
