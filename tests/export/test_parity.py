"""How agreement is measured."""

import math

import numpy as np
import pytest

from nearlight.export.parity import _embed, agreement
from tests.export.conftest import Vectors


def unit(rows: int, seed: int) -> Vectors:
    values = np.random.default_rng(seed).normal(size=(rows, 7))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float32)


def test_agreement_by_hand() -> None:
    expected, found = unit(5, 0), unit(5, 1)
    cosines = [
        sum(float(a) * float(b) for a, b in zip(x, y, strict=True))
        for x, y in zip(expected, found, strict=True)
    ]
    near = agreement(expected, found)
    assert near.count == 5
    assert near.min_cosine == pytest.approx(min(cosines), abs=1e-6)
    assert near.mean_cosine == pytest.approx(sum(cosines) / 5, abs=1e-6)
    assert near.max_abs_error == pytest.approx(float(np.abs(expected - found).max()))
    assert agreement(expected, expected).min_cosine > 0.9999999


def test_vectors_that_are_not_finite_never_agree() -> None:
    expected = unit(3, 0)
    for value in (math.nan, math.inf):
        found = expected.copy()
        found[1, 2] = value
        near = agreement(expected, found)
        assert near.min_cosine == -1.0
        assert math.isfinite(near.max_abs_error)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 63, 64, 200, 1000])
def test_batches_of_many_sizes_cover_everything_once(count: int) -> None:
    sizes = []

    def batch(start: int, stop: int) -> Vectors:
        sizes.append(stop - start)
        return np.arange(start, stop, dtype=np.float32)[:, None]

    assert _embed("rows", count, batch).vectors[:, 0].tolist() == list(range(count))
    assert max(sizes) <= 32
    assert count < 100 or len(set(sizes)) > 3
