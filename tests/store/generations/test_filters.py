"""Filters of every width: recall holds, and there are never fewer hits than points that pass."""

import threading
from pathlib import Path

import numpy as np
import pytest

from nearlight.store import Collection, Point, SearchParams, Store
from nearlight.store.filters.conditions import Field, Filter, Range
from nearlight.store.generations import keeping
from nearlight.store.generations.building import build
from tests.store.generations.conftest import DIM, GRAPH, clustered, kept

N = 4000
EXACT = SearchParams(exact=True)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> "object":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "run_build", lambda order, stop: build(order))
        patch.setattr(keeping, "MIN_DEAD", 1)
        with Store.open(tmp_path_factory.mktemp("filters"), n_threads=2) as store:
            made = store.create_collection("c", space_id="s", dim=DIM, index=GRAPH)
            vectors = clustered(N, 11)
            order = np.random.default_rng(5).permutation(N)
            # `side` is where a point lies: a filter by it leaves out all that is near some queries.
            points = [
                Point(i, vectors[i], {"share": int(order[i]), "side": float(vectors[i, 0])}) for i in range(N)
            ]
            made.upsert(points)
            kept(store)
            made.delete([i for i in range(N) if i % 20 == 3])  # tombstones, too few for a new index
            yield made


def narrow(share: float) -> Filter:
    return Filter(must=(Field(("share",), Range(lt=share * N)),))


def recall(collection: Collection, filter: Filter, limit: int = 10) -> tuple[float, bool]:
    queries = clustered(40, 77)
    found = collection.answer(queries, filter, limit=limit)
    true = collection.answer(queries, filter, limit=limit, params=EXACT)
    assert found.n_matching == true.n_matching
    for hits in found.hits:
        assert len(hits) == min(limit, found.n_matching)
        assert len({hit.id for hit in hits}) == len(hits)
    pairs = zip(found.hits, true.hits, strict=True)
    shares = [len({hit.id for hit in a} & {hit.id for hit in b}) / len(b) for a, b in pairs]
    return float(np.mean(shares)), found.how.exact


@pytest.mark.parametrize(("share", "is_exact"), [(0.5, False), (0.1, False), (0.01, True), (0.001, True)])
def test_recall_holds_behind_filters_of_every_width(
    collection: Collection, share: float, is_exact: bool
) -> None:
    found, was_exact = recall(collection, narrow(share))
    assert found >= 0.95
    assert was_exact == is_exact


@pytest.mark.parametrize("limit", [1, 10, 100])
def test_a_filter_that_leaves_out_a_query_s_neighbours_still_fills_the_hits(
    collection: Collection, limit: int
) -> None:
    sides = np.sort(clustered(N, 11)[:, 0])
    for bounds in (Range(gte=float(sides[-N // 8])), Range(lt=float(sides[N // 8]))):
        share, _ = recall(collection, Filter(must=(Field(("side",), bounds),)), limit)
        assert share >= 0.95


def test_more_hits_than_an_index_should_give_come_from_an_exact_search(collection: Collection) -> None:
    answer = collection.answer(clustered(1, 3), limit=3000)
    assert answer.how.exact
    assert len(answer.hits[0]) == 3000


def test_each_search_has_its_own_parameters(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches side by side, with different widths, find what they find alone."""
    monkeypatch.setattr("nearlight.store.generations.search.n_candidates", lambda wanted: wanted)
    queries = clustered(30, 13)
    widths = [4, 16, 64, 256]

    def ids(width: int) -> list[list[object]]:
        found = collection.answer(queries, limit=5, params=SearchParams(hnsw_ef=width))
        return [[hit.id for hit in hits] for hits in found.hits]

    alone = {width: ids(width) for width in widths}
    assert len({str(found) for found in alone.values()}) > 1
    faults: list[int] = []

    def work(width: int) -> None:
        faults.extend(width for _ in range(15) if ids(width) != alone[width])

    threads = [threading.Thread(target=work, args=(width,)) for width in widths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []


def test_a_narrow_filter_is_planned_once_for_a_state(collection: Collection, tmp_path: Path) -> None:
    """The same filter on the same state costs no second look-up of its rows."""
    narrowed = collection._searcher._narrowed
    collection.answer(clustered(1, 3), narrow(0.5), limit=3)
    first = narrowed._remembered[narrow(0.5)]
    collection.answer(clustered(1, 3), narrow(0.5), limit=3)
    assert narrowed._remembered[narrow(0.5)] is first
    collection.upsert([Point("new", clustered(1, 3)[0], {"share": 0, "side": 0.0})])
    assert collection.answer(clustered(1, 3), narrow(0.5), limit=3).hits[0][0].id == "new"
    collection.delete(["new"])
    assert collection.answer(clustered(1, 3), narrow(0.5), limit=3).hits[0][0].id != "new"
