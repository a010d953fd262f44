import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearlight.store import InvalidQuery, diverse, mean_direction
from nearlight.store.validation import unit_rows


def test_the_mean_is_weighted_over_unit_vectors() -> None:
    positive = np.array([[2, 0, 0], [0, 5, 0]], np.float32)
    negative = np.array([[0, 0, 3]], np.float32)
    weights = np.array([3, 1], np.float32)
    mixed = mean_direction(positive, negative, weights, np.array([7], np.float32))
    expected = np.array([0.75, 0.25, -1])
    np.testing.assert_allclose(mixed, expected / np.linalg.norm(expected), atol=1e-6)
    away = mean_direction(positive[:0], negative, weights[:0], weights[:1])
    np.testing.assert_allclose(away, [0, 0, -1])


def test_examples_that_cancel_out_are_refused() -> None:
    one = np.array([[0.6, 0.8]], np.float32)
    with pytest.raises(InvalidQuery, match="mix is of examples that cancel out"):
        mean_direction(one, 3 * one, np.ones(1, np.float32), np.ones(1, np.float32))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(0, 35), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_each_choice_is_the_best_by_the_formula(n_rows: int, n: int, diversity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng.standard_normal((n_rows, 5)))
    scores = (vectors @ unit_rows(rng.standard_normal((1, 5)))[0]).astype(np.float32)
    chosen = diverse(scores, vectors, n, diversity)
    assert len(chosen) == len(set(chosen)) == min(max(n, 1), n_rows)
    assert scores[chosen[0]] == scores.max()
    for at in range(1, len(chosen)):
        before = chosen[:at]

        def gain(i: int, before: list[int] = before) -> float:
            return float(
                (1 - diversity) * scores[i] - diversity * max(vectors[i] @ vectors[j] for j in before)
            )

        best = max(gain(i) for i in range(n_rows) if i not in before)
        assert gain(chosen[at]) == pytest.approx(best, abs=1e-6)


def test_the_ends_of_diversity() -> None:
    vectors = unit_rows(np.array([[1, 0.0, 0], [1, 0.01, 0], [0, 1, 0], [0.5, 0, 1]]))
    scores = vectors[:, 0]
    assert diverse(scores, vectors, 4, 0.0) == [0, 1, 3, 2]
    assert diverse(scores, vectors, 2, 1.0) == [0, 2]
    assert diverse(scores[:0], vectors[:0], 3, 0.5) == []
