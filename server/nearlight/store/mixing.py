"""One direction made of several examples, and hits chosen for variety."""

import numpy as np

from nearlight.store.errors import InvalidQuery
from nearlight.store.points import F32
from nearlight.store.validation import unit_rows

_SHORTEST = 1e-6  # below it rounding says where a mean of unit vectors points


def mean_direction(positive: F32, negative: F32, positive_weights: F32, negative_weights: F32) -> F32:
    """The weighted mean of the positive examples minus that of the negative ones, at unit length.

    Args:
        positive: (P, D) of any length but zero.
        negative: (N, D); P + N is at least 1.
        positive_weights: (P,) above 0.
        negative_weights: (N,) above 0.

    Returns:
        (D,)

    Raises:
        InvalidQuery: the examples cancel out.
    """
    dim = positive.shape[1]
    direction = np.zeros(dim)
    for vectors, weights, sign in ((positive, positive_weights, 1), (negative, negative_weights, -1)):
        if len(vectors):
            direction += sign * np.average(unit_rows(vectors).astype(np.float64), axis=0, weights=weights)
    if np.linalg.norm(direction) < _SHORTEST:
        raise InvalidQuery("mix", "of examples that cancel out", "they must point somewhere")
    mixed: F32 = unit_rows(direction[None])[0]
    return mixed


def diverse(scores: F32, vectors: F32, n: int, diversity: float) -> list[int]:
    """Choose rows by maximal marginal relevance.

    Each choice is the row with the highest (1 - diversity) * score - diversity * s, where s is its highest
    cosine with a row chosen before; of equal ones the first. Carbonell and Goldstein, 1998,
    "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries".

    Args:
        scores: (M,) likeness of each row to the query.
        vectors: (M, D) unit length.
        n: how many to choose.
        diversity: 0 (likeness alone) to 1 (variety alone).

    Returns:
        At most n places in the order of choice. The first is the row with the highest score.
    """
    if not len(scores):
        return []
    chosen = [int(scores.argmax())]
    nearest = np.full(len(scores), -np.inf)  # (M,) highest cosine with any chosen row
    while len(chosen) < min(n, len(scores)):
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
        gain = (1 - diversity) * scores - diversity * nearest
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen
