from typing import Any

import numpy as np
import pytest

from nearlight.store import Collection, Filter, InvalidQuery, Point, Store
from nearlight.store.filters.conditions import Field, IntegerRange
from nearlight.store.validation import unit_rows


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    vectors = unit_rows(np.random.default_rng(3).standard_normal((2500, 8)))
    with Store.open(tmp_path_factory.mktemp("best"), n_threads=1) as store:
        collection = store.create_collection("c", space_id="s", dim=8)
        collection.upsert([Point(i, vectors[i], {"n": i}) for i in range(2500)])
        collection.delete([7])
        yield collection, vectors


@pytest.mark.parametrize(("n_positive", "n_negative"), [(1, 0), (1, 1), (3, 2), (5, 40)])
@pytest.mark.parametrize("most", [None, 30, 1000])
def test_ranks_as_the_naive_rule_says(
    filled: Any, n_positive: int, n_negative: int, most: int | None
) -> None:
    collection, vectors = filled
    rng = np.random.default_rng(n_negative)
    positive = rng.standard_normal((n_positive, 8))
    negative = rng.standard_normal((n_negative, 8))
    filter = None if most is None else Filter(must=(Field(("n",), IntegerRange(lt=most)),))
    allowed = [i for i in range(most or 2500) if i != 7]

    def rank(i: int) -> tuple[bool, float]:
        best = max(float(vectors[i] @ one) for one in unit_rows(positive))
        worst = max((float(vectors[i] @ one) for one in unit_rows(negative)), default=-2.0)
        return worst > best, -best

    expected = sorted(allowed, key=rank)
    hits, n_matching = collection.search_best_score(
        positive, negative, filter, limit=50, offset=3, with_vectors=True
    )
    assert n_matching == len(allowed)
    assert [hit.id for hit in hits] == expected[3:53]
    assert [hit.score for hit in hits] == pytest.approx([-rank(i)[1] for i in expected[3:53]], abs=1e-6)
    assert all(np.array_equal(hit.vector, vectors[hit.id]) for hit in hits)
    cut, _ = collection.search_best_score(positive, negative, filter, limit=5000, score_threshold=0.5)
    assert [hit.id for hit in cut] == [i for i in expected if -rank(i)[1] >= 0.5]


def test_bad_arguments(collection: Collection) -> None:
    nothing = np.empty((0, 4))
    assert collection.search_best_score([[1, 0, 0, 0]], nothing, limit=3) == ([], 0)
    with pytest.raises(InvalidQuery, match="positive is 0"):
        collection.search_best_score(nothing, [[1, 0, 0, 0]], limit=3)
