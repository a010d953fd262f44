import threading
from typing import Any

import numpy as np
import pytest

from nearlight.store import Collection, Filter, Hit, InvalidPoint, InvalidQuery, Point, Store
from nearlight.store.filters.conditions import Field, HasId, Integer, IntegerRange, IsEmpty, Keyword
from nearlight.store.validation import unit_rows


def below(most: int) -> Filter:
    return Filter(must=(Field(("n",), IntegerRange(lt=most)),))


def shown(hits: list[Hit]) -> list[Any]:
    return [hit.id for hit in hits]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """3,000 points of dim 8 in several chunks; a tenth was deleted, a tenth written again."""
    rng = np.random.default_rng(5)
    vectors = unit_rows(rng.standard_normal((3000, 8)))
    with Store.open(tmp_path_factory.mktemp("big"), n_threads=2) as store:
        collection = store.create_collection("c", space_id="s", dim=8)
        points = [Point(i, vectors[i], {"n": i, "odd": i % 2}) for i in range(3000)]
        collection.upsert(points)
        collection.upsert(points[::10])
        collection.delete(range(5, 3000, 10))
        alive = [i for i in range(3000) if i % 10 != 5]
        yield collection, vectors, alive


@pytest.mark.parametrize("most", [1, 3, 40, 300, 1500, 2990, 5000])
@pytest.mark.parametrize("n_queries", [1, 4, 5, 70])
def test_filtered_hits_are_the_best_of_those_that_pass(big: Any, most: int, n_queries: int) -> None:
    collection, vectors, alive = big
    queries = unit_rows(np.random.default_rng(most).standard_normal((n_queries, 8)))
    allowed = [i for i in alive if i < most]
    hits, n_matching = collection.search_matching(queries, below(most), limit=20, offset=2)
    assert n_matching == len(allowed) == collection.count(below(most))
    for query, found in zip(queries, hits, strict=True):
        scores = {i: float(vectors[i].astype(np.float64) @ query) for i in allowed}
        best = sorted(allowed, key=lambda i: -scores[i])[2:22]
        assert len(found) == min(20, max(0, len(allowed) - 2))
        assert shown(found) == best
        assert [hit.score for hit in found] == pytest.approx([scores[i] for i in best], abs=1e-6)


def test_filtered_scroll_pages_through_those_that_pass(big: Any) -> None:
    collection, _, alive = big
    odd = Filter(must=(Field(("odd",), Integer(1)),))
    seen, after = [], None
    while True:
        records, after = collection.scroll(after, limit=37, filter=odd)
        seen += [record.id for record in records]
        if after is None:
            break
    assert seen == [i for i in alive if i % 2]


def test_what_a_filter_passes_follows_every_write(collection: Collection) -> None:
    vector = [1, 0, 0, 0]
    is_a = Filter(must=(Field(("k",), Keyword("a")),))

    def found() -> list[Any]:
        hits, n_matching = collection.search_matching([vector], is_a, limit=10)
        assert n_matching == len(hits[0]) == collection.count(is_a)
        return shown(hits[0])

    assert found() == []
    collection.upsert([Point(i, vector, {"k": "a" if i < 2 else "b"}) for i in range(4)])
    assert found() == [0, 1]
    collection.set_payload([2], {"k": "a"})
    collection.delete_payload([0])
    assert found() == [1, 2]
    collection.delete(Filter(must=(HasId(frozenset({1})),)))
    assert found() == [2]
    assert collection.delete(Filter(must=(IsEmpty(("k",)),))) == 1
    assert collection.count() == 2


def test_a_bad_filter_changes_nothing(collection: Collection) -> None:
    collection.upsert([Point("a", [1, 0, 0, 0], {})])
    bad = Filter(min_should=-1)
    for call in (
        lambda: collection.search_matching([[1, 0, 0, 0]], bad, limit=1),
        lambda: collection.count(bad),
        lambda: collection.scroll(filter=bad),
        lambda: collection.delete(bad),
        lambda: collection.set_payload(bad, {"k": 1}),
        lambda: collection.delete_payload(bad),
    ):
        with pytest.raises(InvalidQuery, match=r"filter\.min_should is -1"):
            call()
    with pytest.raises(InvalidPoint):
        collection.set_payload([""], {"k": 1})
    assert [record.payload for record in collection.get(["a"])] == [{}]


def test_readers_see_a_change_of_payloads_whole_or_not_at_all(store: Store) -> None:
    """Every write moves all 50 points from one value to the next, so a state has one value only."""
    collection = store.create_collection("c", space_id="s", dim=4)
    collection.upsert([Point(i, [1, i, 0, 0], {"v": 0}) for i in range(50)])
    stop = threading.Event()
    seen: list[set[tuple[int, int]]] = []

    def read() -> None:
        everyone = Filter(must=(Field(("v",), IntegerRange(gte=0)),))
        while not stop.is_set():
            filtered, n = collection.search_matching([[1, 0, 0, 0]], everyone, limit=50)
            plain = collection.search([[1, 0, 0, 0]], limit=50)
            seen.append({(n, len(filtered[0])), (50, len(plain[0]))})
            for hits in (filtered[0], plain[0]):
                seen.append({(hit.payload["v"], 0) for hit in hits if hit.payload is not None})

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for value in range(1, 40):
        collection.set_payload(Filter(), {"v": value})
    stop.set()
    for thread in threads:
        thread.join()
    assert len(seen) > 6
    assert all(len(values) == 1 for values in seen)
