"""The fit against loops, and what relevance promises."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from nearlight.store import Collection, InvalidQuery, Null, Point
from nearlight.store.relevance import ITSELF, fit_null, sample

F32 = npt.NDArray[np.float32]


def units(seed: int, n: int, dim: int = 8, centre: float = 0.0) -> F32:
    rows = np.random.default_rng(seed).normal(size=(n, dim)) + centre
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def naive_u(bank: F32, query: F32, point: F32) -> float:
    """The score of a query and a point, less half of the mean score of the bank and the point."""
    scores = [float(one @ point) for one in bank]
    others = [score for score in scores if score < ITSELF]
    return float(query @ point) - sum(others) / len(others) / 2


def naive_bulk(bank: F32, query: F32, vectors: F32) -> list[float]:
    values = [naive_u(bank, query, x) for x in vectors]
    middle = naive_quantile(values, 0.5)
    return [1.0, middle, middle - naive_quantile(values, 0.16)]


def naive_quantile(values: list[float], p: float) -> float:
    values = sorted(values)
    at = p * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_and_the_relevance_are_those_of_loops(seed: int) -> None:
    vectors = units(seed, 60)
    bank = np.concatenate([units(seed + 100, 15), vectors[:5]])  # five of the bank are points themselves
    null = fit_null(bank, vectors)
    best, part = (
        np.array([max(naive_u(bank, q, x) for x in among if float(q @ x) < ITSELF) for q in bank])
        for among in (vectors, vectors[::4])
    )
    bulk = np.array([naive_bulk(bank, q, vectors) for q in bank])
    weights = np.linalg.solve(bulk.T @ bulk, bulk.T @ best)  # the normal equations
    np.testing.assert_allclose(null.weights, weights, rtol=1e-3, atol=1e-4)
    low, middle, high = (naive_quantile(list(best - bulk @ weights), p) for p in (0.25, 0.5, 0.75))
    # Quantile p of a Gumbel distribution is location - scale * ln(-ln p).
    scale = (high - low) / (math.log(-math.log(0.25)) - math.log(-math.log(0.75)))
    location = middle + scale * math.log(-math.log(0.5))
    r = {n: math.sqrt(2 * math.log(n)) for n in (15, 60, 500)}
    growth = (naive_quantile(list(best), 0.5) - naive_quantile(list(part), 0.5)) / (r[60] - r[15])
    assert (null.scale, null.location, null.growth) == pytest.approx(
        (scale, location, growth), rel=1e-3, abs=1e-5
    )
    (query,) = units(seed + 200, 1)
    level = float(np.dot(naive_bulk(bank, query, vectors[:40]), weights))
    assert null.level(query, vectors[:40], null.centres(vectors[:40])) == pytest.approx(level, abs=1e-4)
    shift = level + location + growth * (r[500] - r[60])
    wanted = [math.exp(-math.exp(-(naive_u(bank, query, x) - shift) / scale)) for x in vectors]
    np.testing.assert_allclose(null.relevance(level, vectors @ query, vectors, 500), wanted, atol=5e-3)


def best_relevance(null: Null, query: F32, vectors: F32, n_points: int) -> float:
    level = null.level(query, vectors[:200], null.centres(vectors[:200]))
    return float(null.relevance(level, vectors @ query, vectors, n_points).max())


def test_a_query_of_the_bank_has_a_relevant_hit_half_the_time_and_a_growing_collection_keeps_that() -> None:
    vectors = units(1, 2_000, 16, centre=0.3)
    bank, others = units(2, 100, 16, centre=0.3), units(3, 100, 16, centre=0.3)
    null = fit_null(bank, vectors[:200])

    def share(n: int, threshold: float) -> float:
        return float(np.mean([best_relevance(null, q, vectors[:n], n) >= threshold for q in others]))

    assert share(200, 0.5) == pytest.approx(0.5, abs=0.15)
    assert share(200, 0.9) == pytest.approx(0.1, abs=0.09)
    grown = share(2_000, 0.5)
    assert 0.1 < grown < 0.6  # ten times the points, not ten times the hits; too strict, not too kind
    ignored = [best_relevance(null, q, vectors, 200) >= 0.5 for q in others]
    assert float(np.mean(ignored)) > grown + 0.2


def test_a_point_near_to_everything_needs_a_higher_score() -> None:
    vectors, (centre,) = units(4, 300, 16), units(5, 1, 16)
    near = units(6, 50, 16) + 2 * centre
    null = fit_null(np.asarray(near / np.linalg.norm(near, axis=1, keepdims=True), np.float32), vectors)
    pair = np.stack([centre, -centre])  # the first is near to the whole bank
    level = null.level(vectors[0], vectors, null.centres(vectors))
    hub, other = null.relevance(level, np.array([0.6, 0.6], np.float32), pair, 300)
    assert hub < other


def test_a_query_near_to_everything_needs_a_higher_score() -> None:
    """As captions are, where the bank is of short prompts: the same lead over the bulk counts the same."""
    vectors, (axis,) = units(4, 300, 16, centre=0.5), units(0, 1, 16, centre=9.0)
    bank = units(6, 60, 16, centre=0.3)
    null = fit_null(bank, vectors)

    def leans(amount: float) -> F32:
        rows = units(7, 40, 16) + amount * axis
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    far, near = leans(0.2), leans(1.0)
    assert (vectors @ near.T).max(axis=0).mean() > (vectors @ far.T).max(axis=0).mean() + 0.05
    kept = [np.mean([best_relevance(null, q, vectors, 300) >= 0.5 for q in some]) for some in (far, near)]
    flat = [np.mean((vectors @ some.T).max(axis=0) >= null.midpoint) for some in (far, near)]
    assert abs(kept[1] - kept[0]) < abs(flat[1] - flat[0])


def test_relevance_grows_with_the_score_and_stays_within_bounds() -> None:
    vectors = units(7, 100)
    null = fit_null(units(8, 30), vectors)
    scores = np.linspace(-1, 1, 50, dtype=np.float32)
    found = null.relevance(0.1, scores, np.repeat(vectors[:1], 50, axis=0), 100)
    assert (np.diff(found) >= 0).all()
    assert found[0] == 0.0
    assert found[-1] <= 1.0
    assert null.relevance(0.1, np.empty(0, np.float32), vectors[:0], 100).shape == (0,)


def test_equal_vectors_are_no_division_by_zero() -> None:
    same = np.repeat(units(9, 1), 60, axis=0)
    null = fit_null(units(10, 20), same)
    assert math.isfinite(best_relevance(null, same[0], same, 60))
    with pytest.raises(InvalidQuery, match="points that differ"):
        fit_null(same[:20], same)  # each of the bank is each point


def test_too_few_of_either_are_refused() -> None:
    with pytest.raises(InvalidQuery, match="points is 49; at least 50"):
        fit_null(units(0, 20), units(1, 49))
    with pytest.raises(InvalidQuery, match="bank is 15 queries; at least 16"):
        fit_null(units(0, 15), units(1, 50))


def test_a_sample_is_of_live_vectors_each_once(collection: Collection) -> None:
    collection.upsert([Point(i, row, {}) for i, row in enumerate(units(3, 3000, 4))])
    collection.delete(list(range(0, 3000, 3)))
    view = collection._head.view
    records = collection.get(list(range(3000)), with_vectors=True)
    living = {record.vector.tobytes() for record in records if record.vector is not None}
    assert {row.tobytes() for row in sample(view, 10_000, seed=0)} == living
    assert len(living) == 2000
    part = [row.tobytes() for row in sample(view, 500, seed=0)]
    assert len(part) == len(set(part)) == 500
    assert part == [row.tobytes() for row in sample(view, 500, seed=0)]
    assert part != [row.tobytes() for row in sample(view, 500, seed=1)]
