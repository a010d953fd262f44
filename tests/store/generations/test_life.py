"""An index is built beside the service, found again at the next open, and built anew when it is due."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearlight.store import Collection, IndexSettings, InvalidCollection, Point, SearchParams, Store
from tests.store.generations.conftest import DIM, Fill, clustered, index_files, kept

EXACT = SearchParams(exact=True)
CHOSEN = SearchParams()


def hits_of(
    collection: Collection, queries: object, params: SearchParams
) -> list[list[tuple[object, float]]]:
    answer = collection.answer(queries, limit=10, params=params)  # type: ignore[arg-type]
    return [[(hit.id, hit.score) for hit in hits] for hits in answer.hits]


def recall(collection: Collection, params: SearchParams = CHOSEN) -> float:
    queries = clustered(50, 99)
    found, true = (hits_of(collection, queries, one) for one in (params, EXACT))
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, true, strict=True)]))


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_index_is_built_and_found_again(tmp_path: Path, kind: str) -> None:
    settings = IndexSettings(kind=kind)  # type: ignore[arg-type]
    with Store.open(tmp_path, n_threads=2) as store:
        collection = store.create_collection("c", space_id="s", dim=DIM, index=settings)
        vectors = clustered(800, 1)
        collection.upsert([Point(i, vectors[i], {}) for i in range(800)])
        assert collection.info.index.kind in ("exact", kind)
        kept(store)
        status = collection.info.index
        assert (status.kind, status.state, status.head_points, status.tombstones) == (kind, "ready", 0, 0)
        assert status.indexed_seq == 800
        assert status.estimated_recall >= 0.95
        assert recall(collection) >= 0.95
        how = collection.answer(vectors[:1], limit=10).how
        assert (how.exact, how.index_kind, how.generation, how.head_points) == (
            False,
            kind,
            status.generation,
            0,
        )
        assert (how.hnsw_ef > 0, how.ivf_nprobe > 0) == (kind == "hnsw", kind == "ivf")
        collection.upsert([Point("new", vectors[0], {})])
        collection.delete([0, 1])
    with Store.open(tmp_path, n_threads=2) as store:
        collection = store.collection("c")
        assert collection.info.index == replace(status, head_points=1, tombstones=2)  # found, not built again
        assert collection.info.index_settings == settings
        hits = collection.answer(vectors[:1], limit=3)
        assert hits.hits[0][0].id == "new"
        assert not hits.how.exact
        assert recall(collection) >= 0.95


def test_hits_of_an_index_have_the_scores_and_the_order_of_an_exact_search(store: Store, fill: Fill) -> None:
    collection = fill(600)
    twins = clustered(1, 5)
    collection.upsert([Point(f"twin-{i}", twins[0], {}) for i in range(5)])  # equal scores in the head
    collection.delete(list(range(0, 600, 9)))
    every = SearchParams(hnsw_ef=2000)  # wide enough to see all
    queries = np.concatenate([clustered(20, 3), twins])
    for params in (every, SearchParams(recall_target=1.0)):
        answer = collection.answer(queries, limit=12, offset=2, with_vectors=True, params=params)
        exact = collection.answer(queries, limit=12, offset=2, with_vectors=True, params=EXACT)
        assert not answer.how.exact
        assert exact.how.exact
        n_same = 0
        for some, others in zip(answer.hits, exact.hits, strict=True):
            assert len(some) == 12
            order = [(-hit.score, hit.seq) for hit in some]
            assert order == sorted(order)
            true = {hit.seq: hit for hit in others}
            n_same += sum(hit.seq in true for hit in some)
            for hit in some:
                if hit.seq in true:
                    assert (hit.score, hit.id) == (true[hit.seq].score, true[hit.seq].id)
                    assert hit.vector is not None
                    assert hit.vector.tobytes() == true[hit.seq].vector.tobytes()  # type: ignore[union-attr]
        if params is every:
            assert n_same == 12 * len(queries)


def test_a_threshold_leaves_out_what_is_below(fill: Fill) -> None:
    collection = fill(600)
    query = clustered(1, 3)
    scores = [hit.score for hit in collection.answer(query, limit=10).hits[0]]
    above = collection.answer(query, limit=10, score_threshold=scores[4])
    assert [hit.score for hit in above.hits[0]] == scores[:5]
    assert not above.how.exact


def test_it_is_built_anew_when_the_head_has_grown(store: Store, fill: Fill) -> None:
    collection = fill(400)
    first = collection.info.index.generation
    vectors = clustered(1000, 2)
    collection.upsert([Point(f"b{i}", vectors[i], {}) for i in range(190)])
    kept(store)
    assert (collection.info.index.generation, collection.info.index.head_points) == (first, 190)
    collection.upsert([Point(f"b{i}", vectors[i], {}) for i in range(190, 250)])
    kept(store)
    assert collection.info.index.generation > first
    assert (collection.info.index.head_points, collection.info.index.indexed_seq) == (0, 650)
    assert len(index_files(Path(store.indexes._folder).parent)) == 1


def test_it_is_built_anew_when_a_fifth_is_dead(store: Store, fill: Fill) -> None:
    collection = fill(500)
    first = collection.info.index.generation
    collection.delete(list(range(100)))
    kept(store)
    assert (collection.info.index.generation, collection.info.index.tombstones) == (first, 100)
    collection.delete([100])
    kept(store)
    assert collection.info.index.generation > first
    assert collection.info.index.tombstones == 0
    assert recall(collection) >= 0.95
    assert collection.verify().problems == []
    with store._readers.snapshot() as connection:
        assert connection.execute("SELECT count(*) FROM dead").fetchone() == (0,)


def test_settings_decide_and_may_change(store: Store, fill: Fill) -> None:
    collection = fill(600, IndexSettings(kind="auto"))
    assert collection.info.index.kind == "exact"  # far below the size that an index is worth
    collection.update(index=IndexSettings(kind="auto", exact_up_to=300))
    kept(store)
    kinds = [collection.info.index.kind]
    collection.update(index=IndexSettings(kind="ivf"))
    kept(store)
    kinds.append(collection.info.index.kind)
    collection.update(index=IndexSettings(kind="exact"))
    kept(store)
    assert [*kinds, collection.info.index.kind] == ["hnsw", "ivf", "exact"]
    assert not index_files(Path(store.indexes._folder).parent)
    assert collection.answer(clustered(1, 1), limit=3).how.exact


def test_a_budget_that_no_index_fits_leaves_search_exact(store: Store, fill: Fill) -> None:
    store.indexes.budget_bytes = 1000
    collection = fill(600)
    assert collection.info.index.kind == "exact"
    assert len(collection.answer(clustered(1, 1), limit=10).hits[0]) == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (IndexSettings(kind="tree"), "index.kind is 'tree'"),  # type: ignore[arg-type]
        (IndexSettings(hnsw_m=3), "index.hnsw_m is 3; the limit is 4 to 128"),
        (IndexSettings(hnsw_ef_construction=5000), "index.hnsw_ef_construction is 5000"),
        (IndexSettings(exact_up_to=-1), "index.exact_up_to is -1"),
        (IndexSettings(recall_target=0.4), "index.recall_target is 0.4; the limit is 0.5 to 1"),
        (IndexSettings(recall_target=float("nan")), "index.recall_target is nan"),
    ],
)
def test_bad_settings_are_refused(store: Store, settings: IndexSettings, message: str) -> None:
    with pytest.raises(InvalidCollection, match=message):
        store.create_collection("c", space_id="s", dim=4, index=settings)
    assert store.collections() == []


def test_a_deleted_collection_takes_its_file_along(store: Store, fill: Fill) -> None:
    fill(400)
    folder = Path(store.indexes._folder).parent
    assert len(index_files(folder)) == 1
    store.delete_collection("c")
    assert not index_files(folder)


def test_verify_compares_the_index_with_the_rows(fill: Fill) -> None:
    collection = fill(400)
    collection.delete([7])
    assert collection.verify().problems == []
    head = collection._head
    view = head.view
    assert view.sealed is not None
    alive = view.sealed.alive.copy()
    row = int(view.sealed.generation.rows_of(np.array([8]))[0])  # of the point 7, which is dead
    other = int(view.sealed.generation.rows_of(np.array([20]))[0])
    alive[row >> 3] |= 1 << (row & 7)
    alive[other >> 3] &= 255 ^ (1 << (other & 7))
    head.view = replace(view, sealed=replace(view.sealed, alive=alive))
    found = [(one.kind, one.message) for one in collection.verify().problems]
    assert found == [
        ("missing_in_generation", "seq 20 is not in the index that covers it"),
        ("dead_in_generation", "the index still finds seq 8, which is dead"),
    ]
