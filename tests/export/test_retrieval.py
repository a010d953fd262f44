"""Figures of use, each by hand."""

import numpy as np
import pytest

from nearlight.export.retrieval import (
    label_agreement,
    neighbour_overlap,
    recall_of_pairs,
    retrieval_overlap,
    shortened,
    truncation_recall,
)
from nearlight.export.subject import Vectors

RNG = np.random.default_rng(0)


def unit(rows: int, dim: int = 6) -> Vectors:
    values = RNG.normal(size=(rows, dim))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def nudged(vectors: Vectors) -> Vectors:
    values = vectors + RNG.normal(size=vectors.shape) * 0.3
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def ten_nearest(query: Vectors, items: Vectors) -> set[int]:
    return set(sorted(range(len(items)), key=lambda row: -float(query @ items[row]))[:10])


def test_overlap_of_retrieval() -> None:
    queries, items = unit(7), unit(40)
    others, moved = nudged(queries), nudged(items)
    shares = [
        len(ten_nearest(queries[n], items) & ten_nearest(others[n], moved)) / 10 for n in range(len(queries))
    ]
    assert retrieval_overlap(queries, items, others, moved) == pytest.approx(sum(shares) / 7)
    assert 0.2 < sum(shares) / 7 < 1
    assert retrieval_overlap(queries, items, queries, items) == 1
    assert retrieval_overlap(queries, items[:3], queries, items[:3]) == 1  # fewer than ten


def test_overlap_of_neighbours() -> None:
    expected = unit(15)
    found = nudged(expected)
    shares = []
    for row in range(15):
        others = np.delete(np.arange(15), row)
        near = [{int(others[n]) for n in ten_nearest(v[row], v[others])} for v in (expected, found)]
        shares.append(len(near[0] & near[1]) / 10)
    assert neighbour_overlap(expected, found) == pytest.approx(sum(shares) / 15)
    assert neighbour_overlap(expected, expected) == 1
    assert neighbour_overlap(expected[:1], found[:1]) == 1


def test_agreement_of_labels() -> None:
    images, labels = unit(30), unit(5)
    moved = nudged(images)
    same = [
        max(range(5), key=lambda n: float(images[row] @ labels[n]))
        == max(range(5), key=lambda n: float(moved[row] @ labels[n]))
        for row in range(30)
    ]
    assert label_agreement(images, labels, moved, labels) == pytest.approx(sum(same) / 30)
    assert 0.2 < sum(same) / 30 < 1


def test_recall_of_pairs() -> None:
    items = unit(40)
    queries, wanted = nudged(items), np.arange(40)
    found = [row in ten_nearest(queries[row], items) for row in range(40)]
    assert recall_of_pairs(queries, items, wanted) == pytest.approx(sum(found) / 40)
    assert recall_of_pairs(items, items, wanted) == 1


def test_shorter_vectors() -> None:
    vectors = unit(20, 8)
    short = shortened(vectors, 3)
    assert short.shape == (20, 3)
    np.testing.assert_allclose(
        short, vectors[:, :3] / np.linalg.norm(vectors[:, :3], axis=1)[:, None], rtol=1e-6
    )
    assert np.isfinite(shortened(np.zeros((1, 8), np.float32), 3)).all()
    assert truncation_recall(vectors, None, 3) == neighbour_overlap(vectors, short)
    items = unit(30, 8)
    assert truncation_recall(vectors, items, 3) == retrieval_overlap(
        vectors, items, short, shortened(items, 3)
    )
