"""Duplicate groups against a naive oracle that compares every point with every other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nearlight.store import Collection, InvalidPoint, InvalidQuery, Point, Store
from nearlight.store import pairs as pairs_module
from nearlight.store.components import Components
from nearlight.store.filters.conditions import Filter, HasId

DIM = 8


def oracle(n: int, is_close: Callable[[int, int], bool]) -> list[list[int]]:
    """Flood fill over every pair."""
    left, groups = set(range(n)), []
    while left:
        group, edge = set(), [min(left)]
        while edge:
            node = edge.pop()
            if node not in group:
                group.add(node)
                edge += [other for other in range(n) if other != node and is_close(node, other)]
        left -= group
        groups.append(sorted(group))
    return sorted((group for group in groups if len(group) > 1), key=lambda group: (-len(group), group[0]))


@pytest.mark.parametrize("seed", range(20))
def test_components_are_those_of_a_flood_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    edges = rng.integers(0, n, (int(rng.integers(0, n)), 2))
    near = {(a, b) for a, b in edges.tolist()} | {(b, a) for a, b in edges.tolist()}
    grown = Components(n)
    for part in np.array_split(edges, 3):
        grown.join(part[:, 0], part[:, 1])
    assert [group.tolist() for group in grown.groups()] == oracle(n, lambda a, b: (a, b) in near)


def bursts(rng: np.random.Generator, n: int) -> Any:
    """(n, DIM) unit vectors that lie in clouds, so that there are groups of many sizes."""
    centres = rng.normal(size=(max(n // 4, 1), DIM))
    made = centres[rng.integers(0, len(centres), n)] + 0.1 * rng.normal(size=(n, DIM))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "_LEFT_ROWS", 7)
    monkeypatch.setattr(pairs_module, "_RIGHT_ROWS", 11)  # chunks are cut too
    monkeypatch.setattr(pairs_module, "_LEFT_HASHES", 5)
    monkeypatch.setattr(pairs_module, "_RIGHT_HASHES", 11)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(4))
def test_groups_by_vector_are_the_naive_ones(store: Store, seed: int) -> None:
    rng = np.random.default_rng(seed)
    collection = store.create_collection("a", space_id="v", dim=DIM)
    collection._head._chunk_rows = 16  # several chunks
    vectors = bursts(rng, 90)
    collection.upsert([Point(i, vector, {}) for i, vector in enumerate(vectors)])
    gone = set(rng.choice(90, 25, replace=False).tolist())
    collection.delete(sorted(gone))
    ids = [i for i in range(90) if i not in gone]
    found: list[Any] = [collection.get([i], with_vectors=True)[0].vector for i in ids]
    stored = np.stack(found).astype(np.float64)
    groups = store.duplicates.hits(collection, store.duplicates.by_vector(collection, 0.95))
    naive = oracle(len(ids), lambda a, b: bool(stored[a] @ stored[b] >= 0.95))
    assert len(naive) > 3
    assert [[hit.id for hit in group] for group in groups] == [[ids[i] for i in group] for group in naive]
    for group, wanted in zip(groups, naive, strict=True):
        scores = stored[wanted] @ stored[wanted[0]]
        assert np.allclose([hit.score for hit in group], scores, atol=1e-6)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("seed", "max_bits"), [(0, 0), (1, 2), (2, 4), (3, 64)])
def test_groups_by_hash_are_the_naive_ones(store: Store, seed: int, max_bits: int) -> None:
    rng = np.random.default_rng(seed)
    collection = store.create_collection("a", space_id="v", dim=DIM)
    hashes = hashes_near_each_other(rng, 80)
    points = [Point(i, np.ones(DIM), {}, perceptual_hash=look) for i, look in enumerate(hashes)]
    collection.upsert([*points, Point("none", np.ones(DIM), {})])
    groups = store.duplicates.hits(collection, store.duplicates.by_hash(collection, max_bits))
    naive = oracle(80, lambda a, b: (hashes[a] ^ hashes[b]).bit_count() <= max_bits)
    assert naive
    assert [[hit.id for hit in group] for group in groups] == naive
    bits = [[round((1 - hit.score) * 64) for hit in group] for group in groups]
    assert bits == [[(hashes[i] ^ hashes[group[0]]).bit_count() for i in group] for group in naive]


def hashes_near_each_other(rng: np.random.Generator, n: int) -> list[int]:
    made: list[int] = [0, 2**64 - 1, 2**63, 0, 5, 2**64 - 1]
    while len(made) < n:
        one = int(rng.integers(0, 2**64, dtype=np.uint64))
        for bit in rng.integers(0, 64, 3).tolist():
            made.append(one)
            one ^= 1 << bit
    return made[:n]


def test_only_points_that_pass_the_filter_are_compared(store: Store) -> None:
    collection = store.create_collection("a", space_id="v", dim=DIM)
    collection.upsert([Point(i, np.ones(DIM), {}, perceptual_hash=7) for i in range(4)])
    some = Filter(must=(HasId(frozenset((1, 3))),))
    for groups in (
        store.duplicates.by_vector(collection, 0.9, some),
        store.duplicates.by_hash(collection, 0, some),
    ):
        assert [[hit.id for hit in group] for group in store.duplicates.hits(collection, groups)] == [[1, 3]]


def test_points_that_went_meanwhile_are_left_out(store: Store) -> None:
    collection = store.create_collection("a", space_id="v", dim=DIM)
    collection.upsert([Point(i, np.eye(DIM)[i % 2], {}) for i in range(5)])  # 0 2 4 and 1 3
    found = store.duplicates.by_vector(collection, 0.9)
    collection.delete([3, 4])
    assert [[hit.id for hit in group] for group in store.duplicates.hits(collection, found)] == [[0, 2], []]


def test_an_empty_collection_has_none(collection: Collection, store: Store) -> None:
    assert store.duplicates.by_vector(collection, 0.9) == []
    assert store.duplicates.by_hash(collection, 4) == []


@pytest.mark.parametrize("score", [0.0, -0.1, 1.01, float("nan")])
def test_a_score_out_of_range_is_refused(collection: Collection, store: Store, score: float) -> None:
    with pytest.raises(InvalidQuery, match="min_score is"):
        store.duplicates.by_vector(collection, score)


def test_bits_out_of_range_are_refused(collection: Collection, store: Store) -> None:
    with pytest.raises(InvalidQuery, match="max_distance_bits is 65; it must be 0 to 64"):
        store.duplicates.by_hash(collection, 65)


def test_a_search_ends_when_nobody_waits_for_it(collection: Collection, store: Store) -> None:
    collection.upsert([Point(i, np.ones(4), {}) for i in range(3)])

    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        store.duplicates.by_vector(collection, 0.9, go_on=stop)


@pytest.mark.parametrize("look", [-1, 2**64, True, 1.0])
def test_a_bad_perceptual_hash_is_refused(collection: Collection, look: int) -> None:
    with pytest.raises(InvalidPoint, match=r"points\[0\]\.perceptual_hash is"):
        collection.upsert([Point(1, np.ones(4), {}, perceptual_hash=look)])


@pytest.mark.slow
def test_a_hundred_thousand_points_need_no_memory_for_their_pairs(store: Store) -> None:
    import resource

    rng = np.random.default_rng(0)
    collection = store.create_collection("a", space_id="v", dim=64)
    centre = rng.normal(size=64)
    vectors = (centre + 0.01 * rng.normal(size=(100_000, 64))).astype(np.float32)  # every pair is close
    for at in range(0, 100_000, 10_000):
        collection.upsert([Point(at + i, vector, {}) for i, vector in enumerate(vectors[at : at + 10_000])])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [group] = store.duplicates.by_vector(collection, 0.9)
    assert len(group.seqs) == 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB; the pairs: 40 GB
