"""What a change of vectors does to those who use them: neighbours, best labels, and shortened vectors."""

import numpy as np
import numpy.typing as npt

from nearlight.export.subject import Vectors

NEIGHBOURS = 10


def neighbour_overlap(expected: Vectors, found: Vectors) -> float:
    """Mean share of each vector's ten nearest others (fewer where there are not ten) that both agree on."""
    count = min(NEIGHBOURS, len(expected) - 1)
    if count < 1:
        return 1.0
    return _shared(_nearest_others(expected, count), _nearest_others(found, count))


def retrieval_overlap(
    expected_queries: Vectors, expected_items: Vectors, queries: Vectors, items: Vectors
) -> float:
    """Mean share of each query's ten nearest items (fewer where there are not ten) that both agree on."""
    count = min(NEIGHBOURS, len(items))
    return _shared(_nearest(expected_queries @ expected_items.T, count), _nearest(queries @ items.T, count))


def label_agreement(
    expected_images: Vectors, expected_labels: Vectors, images: Vectors, labels: Vectors
) -> float:
    """Share of images whose nearest label is the same."""
    expected = (expected_images @ expected_labels.T).argmax(axis=1)  # (N,)
    return float(np.mean(expected == (images @ labels.T).argmax(axis=1)))


def truncation_recall(queries: Vectors, items: Vectors | None, dim: int) -> float:
    """What share of the ten nearest by whole vectors the first `dim` numbers find as well.

    Args:
        queries: (N, D), unit length.
        items: (M, D), unit length; None looks for other queries.
        dim: Numbers kept, below D.
    """
    short = shortened(queries, dim)
    if items is None:
        return neighbour_overlap(queries, short)
    return retrieval_overlap(queries, items, short, shortened(items, dim))


def recall_of_pairs(queries: Vectors, items: Vectors, wanted: npt.NDArray[np.int64]) -> float:
    """Share of queries (N, D) whose item, row `wanted[i]` of (M, D), is among their ten nearest."""
    nearest = _nearest(queries @ items.T, min(NEIGHBOURS, len(items)))  # (N, 10)
    return float((nearest == wanted[:, None]).any(axis=1).mean())


def shortened(vectors: Vectors, dim: int) -> Vectors:
    """The first `dim` numbers of each vector, scaled back to unit length."""
    kept = vectors[:, :dim].astype(np.float64)
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    return np.asarray(kept / np.maximum(lengths, 1e-12), np.float32)


def _nearest_others(vectors: Vectors, count: int) -> npt.NDArray[np.int64]:
    scores = vectors @ vectors.T  # (N, N)
    np.fill_diagonal(scores, -np.inf)
    return _nearest(scores, count)


def _nearest(scores: Vectors, count: int) -> npt.NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _shared(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float:
    count = first.shape[1]
    return float(np.mean([len(set(a) & set(b)) / count for a, b in zip(first, second, strict=True)]))
