import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearlight.training.mixture import Mixture, split_batch


def test_every_sample_once_before_any_twice() -> None:
    mixture = Mixture([10, 7], [1, 1], batch_size=6, seed=5)
    seen: list[list[int]] = [[], []]
    for step in range(40):
        for s, rows in enumerate(mixture.rows(step)):
            seen[s].extend(rows.tolist())
    for s, size in enumerate((10, 7)):
        for epoch in range(len(seen[s]) // size):
            assert sorted(seen[s][epoch * size : (epoch + 1) * size]) == list(range(size))
    assert seen[0][:10] != seen[0][10:20]  # shuffled anew


def test_a_step_depends_on_seed_and_number_alone() -> None:
    forward = Mixture([50, 30], [2, 1], 12, seed=1)
    in_order = [forward.rows(step) for step in range(30)]
    fresh = Mixture([50, 30], [2, 1], 12, seed=1)
    for step in (29, 3, 17):
        for a, b in zip(fresh.rows(step), in_order[step], strict=True):
            assert np.array_equal(a, b)
    other = Mixture([50, 30], [2, 1], 12, seed=2).rows(0)
    assert not np.array_equal(other[0], in_order[0][0])


def test_a_batch_may_be_larger_than_a_source() -> None:
    rows = Mixture([3], [1], 8, seed=0).rows(1)[0]
    assert len(rows) == 8
    assert set(rows.tolist()) == {0, 1, 2}


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.integers(8, 600))
def test_shares_fill_the_batch_in_proportion(weights: list[float], batch_size: int) -> None:
    shares = split_batch(weights, batch_size)
    assert sum(shares) == batch_size
    assert min(shares) >= 1
    for share, weight in zip(shares, weights, strict=True):
        exact = weight / sum(weights) * batch_size
        assert exact - len(weights) - 1 < share < exact + 2


def test_more_sources_than_places() -> None:
    with pytest.raises(ValueError, match="batch_size is 2"):
        split_batch([1, 1, 1], 2)
