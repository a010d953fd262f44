"""Rows that are remembered: never stale, never too many, never of points that are gone."""

import random
import threading
from typing import Any

import numpy as np
import pytest

from nearlight.store import Filter, NotInMemory, Point, SearchParams, Store
from nearlight.store.filters.conditions import HasId
from nearlight.store.row_cache import RowCache


def row(seq: int, size: int = 10) -> tuple[int, str]:
    return seq, "x" * size


def test_remembers_what_is_asked_for_again_and_keeps_its_bound() -> None:
    cache = RowCache(20_000)
    cache.keep({0: row(0)})
    for seq in range(1, 2000):
        cache.keep({seq: row(seq)})
        assert cache.of([0]) == {0: row(0)}
        assert 0 < cache.n_bytes <= 20_000
    assert cache.of([1]) == {}
    assert cache.of([1999, 5]) == {1999: row(1999)}


def test_what_is_larger_than_half_of_it_is_not_kept() -> None:
    cache = RowCache(2000)
    cache.keep({1: row(1), 2: row(2, 5000)})
    assert cache.of([1, 2]) == {1: row(1)}
    nothing = RowCache(0)
    nothing.keep({1: row(1)})
    assert nothing.of([1]) == {}


def test_counts_its_bytes_through_all_that_happens() -> None:
    rng, cache = random.Random(3), RowCache(30_000)
    for _ in range(3000):
        seqs = [rng.randrange(300) for _ in range(4)]
        step = rng.randrange(5)
        if step == 0:
            cache.drop(seqs)
            assert cache.of(seqs) == {}
        elif step < 4:
            cache.keep({seq: row(seq, seq) for seq in seqs})
        else:
            assert all(found == row(seq, seq) for seq, found in cache.of(seqs).items())
        assert 0 <= cache.n_bytes <= cache.max_bytes
    cache.drop(range(300))
    assert cache.n_bytes == 0
    cache.keep({1: row(1)})
    cache.clear()
    assert (cache.n_bytes, cache.of([1])) == (0, {})


VECTORS = np.random.default_rng(3).standard_normal((40, 8)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Any) -> Any:
    with Store.open(tmp_path, n_threads=1) as opened:
        opened.create_collection("c", space_id="s", dim=8).upsert(
            [Point(i, VECTORS[i], {"n": i}) for i in range(40)]
        )
        yield opened


def shown(store: Store, name: str = "c", **options: Any) -> list[Any]:
    (hits,) = store.collection(name).answer(VECTORS[:1], limit=50, **options).hits
    return [(hit.id, hit.payload, hit.seq) for hit in hits]


def test_every_write_is_seen_by_the_next_query(store: Store) -> None:
    collection = store.collection("c")
    for _ in range(2):  # the second time from memory
        assert [(one, payload) for one, payload, _ in shown(store)][0] == (0, {"n": 0})
    assert shown(store, memory_only=True) == shown(store)
    collection.upsert([Point(0, VECTORS[0], {"n": "new"})])
    assert shown(store)[0][:2] == (0, {"n": "new"})
    collection.set_payload([0], {"more": [1, 2]})
    assert shown(store)[0][:2] == (0, {"n": "new", "more": [1, 2]})
    collection.delete_payload([0], [("n",)])
    assert shown(store)[0][:2] == (0, {"more": [1, 2]})
    collection.delete([0])
    assert 0 not in [one for one, _, _ in shown(store)]
    assert shown(store, memory_only=True) == shown(store)


def test_a_restored_collection_shows_its_own_rows(store: Store) -> None:
    before = shown(store)
    snapshot = store.snapshots.create("c")
    store.collection("c").upsert([Point(i, VECTORS[i], {"n": -i}) for i in range(40)])
    store.snapshots.restore(snapshot.name, "old")
    assert [one[:2] for one in shown(store, "old")] == [one[:2] for one in before]
    assert [one[1] for one in shown(store)] == [{"n": -one[0]} for one in before]
    store.delete_collection("c")
    store.create_collection("c", space_id="s", dim=8).upsert([Point(0, VECTORS[0], {"n": "other"})])
    assert [one[:2] for one in shown(store)] == [(0, {"n": "other"})]


def test_what_is_deleted_does_not_stay_in_memory(store: Store) -> None:
    cache = store.row_cache
    seqs = [seq for _, _, seq in shown(store)]
    assert len(cache.of(seqs)) == 40
    store.collection("c").delete([3, 4])
    assert len(cache.of(seqs)) == 38
    store.delete_collection("c")
    assert cache.n_bytes == 0


def test_memory_alone_answers_only_what_it_holds(store: Store) -> None:
    with pytest.raises(NotInMemory):
        shown(store, memory_only=True)
    with pytest.raises(NotInMemory):
        shown(store, memory_only=True, filter=Filter(must=(HasId(frozenset({1})),)))
    store.row_cache.max_bytes = 0
    assert len(shown(store)) == 40  # a store that remembers nothing answers all the same
    with pytest.raises(NotInMemory):
        shown(store, memory_only=True)


def test_a_row_read_while_it_dies_is_never_shown_again(store: Store) -> None:
    """Searches race with writes; each hit has the payload of its own version."""
    collection, stop = store.collection("c"), threading.Event()
    failures: list[str] = []

    def search() -> None:
        newest = 0
        while not stop.is_set():
            (hits,) = collection.answer(VECTORS[:1], limit=40, params=SearchParams(exact=True)).hits
            ids = [hit.id for hit in hits]
            payload = next(hit.payload for hit in hits if hit.id == 0)
            version = payload["n"] if payload else -1
            if version < newest or len(set(ids)) != 40:
                failures.append(f"{version} after {newest}, {len(set(ids))} points")
            newest = version

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(1, 60):
        collection.upsert([Point(0, VECTORS[0], {"n": n})])
        assert shown(store)[0][:2] == (0, {"n": n})
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
